"""Every `posttrain` command in README and docs is one that the command line takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "README.ko.md",
    ROOT / "k8s/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"(?:^|exec |&& )posttrain +(?=[a-z])(.*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
ALL = typer.main.get_command(app)


def in_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a page's blocks, and the comment beside it without others' commands."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            line, _, comment = line.partition(" #")
            if found := COMMAND.search(line.strip()):
                yield (
                    re.split(r"[<>|;&']", found[1])[0],
                    re.sub("`[^`]*`", "", comment),
                )


def in_prose(text: str) -> list[str]:
    return re.findall(r"`posttrain ([a-z][^`]*)`", FENCE.sub("", text))


def find(words: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command that words name, and the words after its name."""
    command, rest = ALL, list(words)
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        found = command.commands.get(rest[0])
        assert found is not None, f"no command {rest[0]!r} (known: {sorted(command.commands)})"
        command, rest = found, rest[1:]
    return command, rest


def problems(words: list[str], comment: str) -> list[str]:
    """Options that the command does not know, and words where it takes none."""
    command, rest = find(words)
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    named = [*OPTION.findall(" ".join(rest)), *OPTION.findall(comment)]
    told = [f"no option {name}" for name in named if name not in known | {"--help"}]
    takes_words = any(isinstance(one, TyperArgument) for one in command.params)
    if rest and rest[0][0] not in "-[" and not takes_words:
        told.append(f"takes no {rest[0]}")
    return told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_option_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [*in_blocks(text), *((line, "") for line in in_prose(text))]
    found = {line: problems(line.split(), comment) for line, comment in named}
    assert {line: told for line, told in found.items() if told} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_block_is_complete(page: Path) -> None:
    for line, _ in in_blocks(page.read_text(encoding="utf-8")):
        command, rest = find(shlex.split(line))
        command.make_context(line, rest)  # raises what the command line would say


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("`posttrain init FILE...`", ["takes no FILE..."]),
        ("`posttrain check -c FILE [--gpu-gb N]`", ["no option --gpu-gb"]),
        (
            "```\nposttrain chat    # --adaptor both, `vllm serve --lora`\n```",
            ["no option --adaptor"],
        ),
        (
            "```\nposttrain generate --recipe a.yaml \\\n  --splitt test\n```",
            ["no option --splitt"],
        ),
    ],
)
def test_a_wrong_one_is_found(text: str, told: list[str]) -> None:
    named = [*in_blocks(text), *((line, "") for line in in_prose(text))]
    assert [problems(line.split(), comment) for line, comment in named] == [told]
