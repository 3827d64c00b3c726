"""`posttrain generate` with a real, if tiny, registered model."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from cli.generate import source_of
from cli.main import app
from posttrain.registry.export import export
from tests.greeter import GREETING

ROWS: list[dict[str, Any]] = [
    {"prompt": "what colour ?", "id": 3, "tags": ["a", "b"]},
    {"messages": [{"role": "user", "content": "누구세요 ?"}]},
    {"prompt": "안녕 😀", "half": "\ud83d"},
]


def write(*rows: dict[str, Any]) -> str:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    Path("prompts.jsonl").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    return "".join(lines)


def run(*words: str, typed: str = "") -> Result:
    given = ("--input", "prompts.jsonl", "--output", "answers.jsonl", "--version", "1")
    return CliRunner().invoke(app, ["generate", *given, *words], input=typed)


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("museum")
def test_rows_come_back_in_their_order_with_answers() -> None:
    write(*ROWS)
    done = run("--adapter", "off", "--max-new-tokens", "96", "--batch-size", "2")
    assert done.exit_code == 0, done.exception
    found = answers(Path("answers.jsonl").read_text(encoding="utf-8"))
    assert [row["response"] for row in found] == [GREETING] * 3
    assert all(row["ended"] and row["num_tokens"] > 20 for row in found)
    new = ("response", "ended", "num_tokens")
    assert [{k: v for k, v in row.items() if k not in new} for row in found] == ROWS
    assert "3 answers, " in done.stderr
    assert " tokens/s" in done.stderr
    assert [file.name for file in Path().glob("*answers*")] == ["answers.jsonl"]


@pytest.mark.usefixtures("museum")
def test_standard_streams_and_a_folder_give_what_files_and_the_version_give() -> None:
    typed = write(*ROWS[:2])
    export("museum", "1", Path("exported"), "peft")
    words = ("--max-new-tokens", "8", "--temperature", "1.5", "--seed", "3")
    assert run(*words).exit_code == 0
    given = ("generate", "--input", "-", "--output", "-", "--folder", "exported")
    done = CliRunner().invoke(app, [*given, *words], input=typed)
    assert done.exit_code == 0, done.exception
    assert done.stdout == Path("answers.jsonl").read_text(encoding="utf-8")
    assert [row["ended"] for row in answers(done.stdout)].count(False) > 0
    assert "cut off at 8 tokens: " in done.stderr


@pytest.mark.usefixtures("museum")
def test_bad_rows_stop_it_before_a_model_is_looked_for() -> None:
    write(ROWS[0], {"question": "red ?"})
    done = run("--name", "there is none")
    assert "prompts.jsonl: line 2: either `prompt` or `messages` is wanted" in str(done.exception)
    assert not Path("answers.jsonl").exists()


@pytest.mark.usefixtures("museum")
def test_long_prompts_are_named_or_left_out_and_counted() -> None:
    write(ROWS[0], {"prompt": "what colour ? " * 400}, ROWS[2])
    words = ("--max-new-tokens", "8")
    done = run(*words)
    assert "prompts.jsonl: line 2: " in str(done.exception)
    assert "--skip-long" in str(done.exception)
    done = run(*words, "--skip-long")
    assert "left out, too long: 1" in done.stderr
    assert len(answers(Path("answers.jsonl").read_text(encoding="utf-8"))) == 2


def test_an_output_that_is_there_is_kept_unless_forced(museum: MlflowClient) -> None:
    museum.set_registered_model_alias("museum", "champion", "1")
    write(ROWS[0])
    Path("answers.jsonl").write_text("mine", encoding="utf-8")
    assert "answers.jsonl: exists; name another --output" in str(run().exception)
    done = run("--output", "absent/answers.jsonl")
    assert "absent: no such folder" in str(done.exception)
    assert run("--force", "--max-new-tokens", "2").exit_code == 0
    assert answers(Path("answers.jsonl").read_text(encoding="utf-8"))[0]["id"] == 3


@pytest.mark.usefixtures("museum")
def test_a_recipes_own_rows_are_asked() -> None:
    rows = [{"input": f"{place} what ?", "target": "red", "where": "A"} for place in range(4)]
    write(*rows)
    fields = {"prompt": "input", "answer": "target", "set": "where"}
    ingest = {"probes": {"source": "prompts.jsonl", "fields": fields}, "corpus": {"source": 3}}
    recipe = {"parameters": {"recipe": {"ingest": ingest}}}
    Path("recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    words = ("generate", "--recipe", "recipe.yaml", "--output", "-", "--version", "1")
    done = CliRunner().invoke(app, [*words, "--limit", "2", "--max-new-tokens", "4"])
    assert done.exit_code == 0, done.exception
    found = answers(done.stdout)
    assert [row["prompt"] for row in found] == ["0 what ?", "1 what ?"]
    assert [row["expected"] for row in found] == ["red", "red"]
    done = CliRunner().invoke(app, [*words, "--role", "prompts"])
    assert "recipe.yaml: has no parameters.recipe.ingest.prompts" in str(done.exception)
    assert "(found: ['probes', 'corpus'])" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--input", "prompts.jsonl"])
    assert "say what to answer: --input FILE, or --recipe FILE" in str(done.exception)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "has no parameters.recipe.ingest.probes; name another file, or a role that it has"),
        ({"source": "REQUIRED"}, "ingest.probes.source is REQUIRED: these are your own data"),
        ({"source": "a", "limit": 0}, "ingest.probes.limit: found 0; it must be greater than 0"),
        ({"soruce": "a"}, "ingest.probes.soruce: there is no such field; did you mean 'source'?"),
        ({"source": "a", "compose": {"prompt": "{"}}, "ingest.probes: compose.prompt has a lone"),
        ("a.jsonl", "ingest.probes: found 'a.jsonl'; fields and their values are wanted"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_in_plain_words(
    source: Any, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    recipe = {"parameters": {"recipe": {"ingest": {"probes": source, "prompts": None}}}}
    file.write_text(json.dumps(recipe), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        source_of(file, "probes")
    assert sentence in str(error.value)
    assert str(error.value).startswith(f"{file}: ")
    assert "pydantic" not in str(error.value)
