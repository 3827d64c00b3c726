"""`posttrain generate`: a file of prompts answered in batches."""

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import Alias, Folder, MaxNewTokens, Name, Seed, System, Temperature, Version

if TYPE_CHECKING:
    from posttrain.data.questions import Question
    from posttrain.facts import Role
    from posttrain.models.answers import Answered, Asked
    from posttrain.recipe.ingest import Source

STANDARD = Path("-")
"""Standard input, or output."""

Split = Annotated[
    str | None, typer.Option(help="With --recipe: a split of the hub data set, or `held_out`.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many rows.")]
RoleOfRecipe = Annotated[
    Literal["instructions", "preferences", "prompts", "probes"],
    typer.Option(help="With --recipe: which of its sources."),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Prompts answered side by side.")]


def generate(
    output: Annotated[Path, typer.Option(help="JSON Lines to write; - for standard output.")],
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="JSON Lines with `prompt` or `messages`; - for stdin."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Run configuration whose source is read, in its place.")
    ] = None,
    role: RoleOfRecipe = "probes",
    split: Split = None,
    limit: Limit = None,
    alias: Alias = None,
    version: Version = None,
    name: Name = None,
    folder: Folder = None,
    adapter: Annotated[
        Literal["on", "off"], typer.Option(help="off: the base alone answers.")
    ] = "on",
    system: System = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    skip_long: Annotated[
        bool, typer.Option("--skip-long", help="Leave out and count prompts that are too long.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Answer a file of prompts, under the chat template of the training.

    Each row comes back with `response`, `ended` (false: cut off) and `num_tokens`.
    """
    check_output(output, force)
    questions = read(input_, recipe, role, split, limit, system)
    numbers = (temperature, max_new_tokens, batch_size, seed)
    drawn = dict(zip(("temperature", "max_new_tokens", "batch_size", "seed"), numbers, strict=True))
    named = {"name": name, "alias": alias, "version": version, "folder": folder}
    answer_to(output, questions, drawn, named, adapter, skip_long)


def check_output(output: Path, force: bool) -> None:
    """Refuse a file that could not be written at the end.

    Raises:
        ValueError: it exists and is not to be overwritten, or its folder does not.
    """
    if output == STANDARD:
        return
    if output.is_dir() or (output.exists() and not force):
        raise ValueError(f"{output}: exists; name another --output, or overwrite it by --force")
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent}: no such folder; make it first")


def read(
    file: Path | None,
    recipe: Path | None,
    role: "Role",
    split: str | None,
    limit: int | None,
    system: str | None,
) -> "list[Question]":
    """The questions of a file, of standard input, or of a recipe's source.

    Raises:
        ValueError: none or two of them are named, or rows are no questions.
    """
    from posttrain.data.questions import parse_questions, read_questions
    from posttrain.data.recipe_questions import recipe_questions

    if (file is None) == (recipe is None):
        raise ValueError("say what to answer: --input FILE, or --recipe FILE")
    if recipe is not None:
        return recipe_questions(source_of(recipe, role), role, split, limit, system)
    assert file is not None
    if split:
        raise ValueError("--split is for --recipe; a file of prompts has no splits")
    if file == STANDARD:
        return parse_questions(sys.stdin.buffer, "standard input", system)[:limit]
    return read_questions(file, system)[:limit]


def source_of(file: Path, role: "Role") -> "Source":
    """A role's source in a run configuration; the rest of it may still be unfinished.

    Raises:
        ValueError: the file is no run configuration, or has no such source.
    """
    from pydantic import ValidationError

    from cli import run_file
    from posttrain.recipe.ingest import IngestRecipe
    from posttrain.recipe.mistakes import sentences

    sources = run_file.read(file)["parameters"]["recipe"].get("ingest")
    sources = sources if isinstance(sources, dict) else {}
    if sources.get(role) is None:
        there = [name for name, given in sources.items() if given is not None]
        raise ValueError(
            f"{file}: has no parameters.recipe.ingest.{role}; name another file, or a role that "
            f"it has by --role (found: {there})"
        )
    try:
        ingest = IngestRecipe.model_validate({role: sources[role]})
    except ValidationError as error:
        told = (f"ingest.{one.removeprefix('ingest.')}" for one in sentences(error, IngestRecipe))
        raise ValueError(f"{file}: {'; '.join(told)}") from error
    return ingest.sources[role]


def answer_to(
    output: Path,
    questions: "list[Question]",
    drawn: dict[str, Any],
    named: dict[str, Any],
    adapter: Literal["on", "off"],
    skip_long: bool,
) -> None:
    """Load what was named, answer, and write."""
    from cli.named import open_source
    from posttrain.models.answers import answer, ask
    from posttrain.models.device import prepare
    from posttrain.recipe.inference import InferenceRecipe

    given = {key: value for key, value in drawn.items() if value is not None}
    settings = InferenceRecipe.model_validate(given)
    prepare(settings.seed)
    source = open_source(**named)
    asked = ask(source, questions, settings.max_new_tokens, skip_long)
    (voice,) = source.load(adapter)
    start = time.perf_counter()
    answered = answer(source, voice, asked, source.sampling(settings))
    seconds = time.perf_counter() - start
    write(output, [one.row() for one in answered])
    for line in summary(asked, answered, seconds, settings.max_new_tokens):
        print(line, file=sys.stderr)


def write(output: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a row a line, to a file beside `output` that then takes its name: never half a file."""
    lines = (_line(row) for row in rows)
    if output == STANDARD:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
        return
    staging = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with staging.open("wb") as stream:
            stream.writelines(lines)
        staging.replace(output)
    finally:
        staging.unlink(missing_ok=True)


def _line(row: dict[str, Any]) -> bytes:
    # half a surrogate pair goes out as it came in, as JSON's own escape
    return f"{json.dumps(row, ensure_ascii=False)}\n".encode("utf-8", "backslashreplace")


def summary(
    asked: "Asked", answered: "list[Answered]", seconds: float, max_new_tokens: int
) -> list[str]:
    """What was done, in lines for a terminal."""
    num_tokens = sum(one.num_tokens for one in answered)
    num_cut = sum(not one.ended for one in answered)
    lines = [
        f"{len(answered)} answers, {num_tokens} tokens in {seconds:.1f} s: "
        f"{num_tokens / seconds:.0f} tokens/s"
    ]
    if num_cut:
        lines.append(f"cut off at {max_new_tokens} tokens: {num_cut}")
    if asked.num_skipped:
        lines.append(f"left out, too long: {asked.num_skipped}")
    return lines
