"""`posttrain preferences`: pairs of the last run's answers to people, and their verdicts back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.version_pairs import versions

if TYPE_CHECKING:
    from posttrain.align.human_preferences import Verdicts

preferences = typer.Typer(
    help="Pairs of answers for people to compare, and their verdicts as preferences.",
    no_args_is_help=True,
)
preferences.command("versions")(versions)

PAIRS = Path("pairs.jsonl")
KEY = Path("pairs.key.jsonl")


@preferences.command("export")
def export(
    out: Annotated[Path, typer.Option(help="File for the raters; the key goes beside it.")] = PAIRS,
    run: Annotated[str | None, typer.Option(help="Run; the last one where absent.")] = None,
    prompt_set: Annotated[
        str | None, typer.Option("--set", help="Set of the prompts; one never trained on.")
    ] = None,
    number: Annotated[int | None, typer.Option(min=1, help="Prompts to answer.")] = None,
    between: Annotated[
        str | None,
        typer.Option(help="Two stages, `ppo,self_critique`; or one, sampled twice: `sft`."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of prompts, answers and order.")] = None,
    layout: Annotated[
        Literal["jsonl", "label-studio"],
        typer.Option("--for", help="JSONL, which Argilla takes; or Label Studio's JSON."),
    ] = "jsonl",
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Write pairs of answers that do not tell who wrote them."""
    from cli.last_run import run_of
    from posttrain.align.pairs import draw, key_file, write
    from posttrain.recipe.human_preferences import PairsRecipe

    for file in (out, key_file(out)):
        _refuse_existing(file, force)
    stages = between.split(",") if between else None
    given = {
        "between": (stages * 2)[:2] if stages and len(stages) == 1 else stages,
        "prompt_set": prompt_set,
        "num_prompts": number,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    recipe = PairsRecipe.model_validate({k: v for k, v in given.items() if v is not None})
    found = run_of(run)
    drawn = draw(found.tokens, found.domain, found.policies, recipe, found.name)
    key = write(drawn, out, layout)
    first, second = drawn.between
    who = f"two samples of {first}" if first == second else f"{first} and {second}"
    print(f"{found.name}: {who}, prompts of the set {drawn.prompt_set}")
    for reason, count in drawn.dropped.items():
        print(f"dropped, {reason}: {count}")
    print(f"wrote {len(drawn.rows)} pairs to {out}; the key, not for raters: {key}")


@preferences.command("import")
def import_(
    answers: Annotated[list[Path], typer.Argument(help="Raters' files, of any of the tools.")],
    key: Annotated[Path, typer.Option(help="Key that the export wrote.")] = KEY,
    out: Annotated[Path, typer.Option(help="Preferences to write.")] = Path("human.jsonl"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Write what raters prefer as a source for ingest.preferences."""
    from posttrain.align.human_preferences import decide, in_lines, read_key, write
    from posttrain.align.verdicts import read_verdicts
    from posttrain.recipe.human_preferences import VerdictsRecipe

    _refuse_existing(out, force)
    pairs = read_key(key)
    decided = decide(pairs, *read_verdicts(answers), VerdictsRecipe())
    for line in in_lines(decided.problems):
        print(line, file=sys.stderr)
    for line in _sentences(decided.figures):
        print(line)
    if not decided.rows:
        raise ValueError("no pair has a preferred side; nothing is written")
    write(decided, out)
    print(f"wrote {len(decided.rows)} preferences to {out}")
    if held_out := sum("split" in row for row in decided.rows):
        print(
            f"{held_out} of them are held out, as their prompts are: they measure the reward model "
            "and train nothing (`export --set` names prompts to train on)"
        )


def _refuse_existing(file: Path, force: bool) -> None:
    if file.exists() and not force:
        raise ValueError(f"{file}: exists; name another file by --out, or overwrite it by --force")


def _sentences(figures: "Verdicts") -> list[str]:
    """Figures as lines for a terminal."""
    from posttrain.evaluate.wording import interval, number, stage_label

    lines = [
        f"{figures.num_verdicts} verdicts of {figures.num_raters} raters on {figures.num_rated} "
        f"of {figures.num_pairs} pairs: {figures.num_preferred} preferred, {figures.num_ties} "
        f"ties and {figures.num_undecided} without a majority dropped"
    ]
    before, after = (stage_label(stage) for stage in figures.stages)
    for what, figure in (
        (f"Win rate of {after} against {before}", figures.win_rate),
        ("Two raters of one pair agree", figures.agreement),
        ("The answer shown first is preferred", figures.first_share),
    ):
        if figure is not None:
            lines.append(f"{what}: {number(figure.value)} (95 % interval {interval(figure)})")
    return lines
