"""`posttrain preferences versions`: two registered versions answer the same prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.options import MaxNewTokens, Name, Seed, System, Temperature

if TYPE_CHECKING:
    from posttrain.align.revise import Utterance
    from posttrain.data.questions import Question
    from posttrain.evaluate.blind import Asked
    from posttrain.recipe.inference import InferenceRecipe

REVIEW = Path(".posttrain/review")
"""Where the review page looks for pairs and leaves verdicts."""

HELD_OUT = "held_out"


def versions(
    first: Annotated[str, typer.Argument(help="Version or alias.")],
    second: Annotated[str, typer.Argument(help="The other.")],
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="JSON Lines with `prompt` or `messages`; - for stdin."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Run configuration whose source is read, in its place.")
    ] = None,
    role: Annotated[
        Literal["instructions", "preferences", "prompts", "probes"],
        typer.Option(help="With --recipe: which of its sources."),
    ] = "prompts",
    split: Annotated[
        str | None, typer.Option(help="With --recipe: a split of the hub data set, or `held_out`.")
    ] = None,
    prompt_set: Annotated[
        str | None, typer.Option("--set", help="Only rows of this `set`, such as `held_out`.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many rows.")] = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="These prompts may be trained on; held out where absent."),
    ] = False,
    name: Name = None,
    system: System = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = None,
    state: Annotated[Path, typer.Option(help="State folder of the review page.")] = REVIEW,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Write pairs of two versions' answers for the review page's blind comparison."""
    from cli.generate import read
    from posttrain.evaluate.ballots import pairs_file, write_pairs
    from posttrain.evaluate.blind import pair_up
    from posttrain.recipe.inference import InferenceRecipe

    name, numbers = _two(name, first, second)
    out = pairs_file(state, name, numbers)
    if out.exists() and not force:
        raise ValueError(f"{out}: exists; overwrite it by --force (verdicts stay)")
    given = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    settings = InferenceRecipe.model_validate({k: v for k, v in given.items() if v is not None})
    found = read(input_, recipe, role, split, None, system)
    questions = [one for one in found if prompt_set in (None, one.row.get("set"))][:limit]
    if not questions:
        raise ValueError(f"--set {prompt_set}: none of {len(found)} rows is of this set")
    answers = (
        _answers(name, numbers[0], questions, settings),
        _answers(name, numbers[1], questions, settings),
    )
    asked = [_asked(question, train) for question in questions]
    pairs, dropped = pair_up(name, numbers, asked, answers, settings.seed)
    for reason, count in dropped.items():
        print(f"dropped, {reason}: {count}")
    if not pairs:
        raise ValueError(
            f"none of {len(questions)} prompts gave two answers to compare; raise --temperature "
            "or --max-new-tokens"
        )
    write_pairs(pairs, out)
    print(f"wrote {len(pairs)} pairs to {out}; rate them with `posttrain review`")


def _two(name: str | None, first: str, second: str) -> tuple[str, tuple[int, int]]:
    """The model and the numbers of the two versions.

    Raises:
        ValueError: one does not exist, or both are the same.
    """
    from mlflow import MlflowClient

    from cli.named import check_store, only_model
    from posttrain.registry.versions import resolve

    check_store()
    name, client = name or only_model(), MlflowClient()
    one, other = (int(resolve(client, name, named).version) for named in (first, second))
    if one == other:
        raise ValueError(f"{first} and {second} are both version {one}; name two versions")
    return name, (one, other)


def _answers(
    name: str, version: int, questions: "list[Question]", settings: "InferenceRecipe"
) -> "list[Utterance]":
    """What one version says; its weights are freed before the next is loaded."""
    from cli.named import open_source
    from posttrain.align.revise import Utterance
    from posttrain.models.answers import answer, ask
    from posttrain.models.device import prepare

    prepare(settings.seed)
    source = open_source(name, None, version, None)
    asked = ask(source, questions, settings.max_new_tokens, skip_long=False)
    (voice,) = source.load("on")
    said = answer(source, voice, asked, source.sampling(settings))
    return [Utterance([], one.response.strip(), one.ended) for one in said]


def _asked(question: "Question", train: bool) -> "Asked":
    """A prompt; held out unless all say that it may be trained on."""
    from posttrain.align.pairs import Turn
    from posttrain.evaluate.blind import Asked

    row = question.row
    kept = not train or HELD_OUT in (row.get("split"), row.get("set"))
    turns = tuple(Turn(role=turn["role"], content=turn["content"]) for turn in question.messages)
    return Asked(turns, held_out=kept, group=str(row.get("group") or ""))
