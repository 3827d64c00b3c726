"""`posttrain preferences versions`: two registered versions answer the same prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import MaxNewTokens, Name, Seed, System, Temperature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        typer.Option("--input", help="In its place: JSON Lines with `prompt` or `messages`."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Run whose prompts are answered; the last one if absent.")
    ] = None,
    prompt_set: Annotated[
        str | None, typer.Option("--set", help="Set of its prompts; one never trained on.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many prompts.")] = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="With --input: prompts to train on; held out where absent."),
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
    from posttrain.evaluate.ballots import pairs_file, write_pairs
    from posttrain.evaluate.blind import pair_up
    from posttrain.recipe.inference import InferenceRecipe

    name, numbers = _two(name, first, second)
    out = pairs_file(state, name, numbers)
    if out.exists() and not force:
        raise ValueError(f"{out}: exists; overwrite it by --force (verdicts stay)")
    given = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    settings = InferenceRecipe.model_validate({k: v for k, v in given.items() if v is not None})
    found = _of_file(input_, system, train) if input_ else _of_run(run, prompt_set, system)
    questions = [question for question, _ in found[:limit]]
    asked = [prompt for _, prompt in found[:limit]]
    # equal draws would make near versions say the same
    other = settings.model_copy(update={"seed": settings.seed + 1})
    answers = (
        _answers(name, numbers[0], questions, settings),
        _answers(name, numbers[1], questions, other),
    )
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


def _of_file(file: Path, system: str | None, train: bool) -> "list[tuple[Question, Asked]]":
    """A file's prompts: held out unless all say that they may be trained on."""
    from posttrain.data.questions import read_questions

    return [
        (
            question,
            _asked(
                question.messages,
                not train or HELD_OUT in (question.row.get("split"), question.row.get("set")),
                str(question.row.get("group") or ""),
            ),
        )
        for question in read_questions(file, system)
    ]


def _of_run(
    run: str | None, prompt_set: str | None, system: str | None
) -> "list[tuple[Question, Asked]]":
    """A set of a run's prompts: held out where the run measured on it."""
    from cli.last_run import run_of
    from posttrain.align.pairs import MEASURED_SET, untrained_set
    from posttrain.align.rows import read_prompts
    from posttrain.data.questions import Question

    found = run_of(run)
    policies = list(found.policies.values())
    chosen = prompt_set or untrained_set(found.tokens, policies)
    held_out = chosen in {policy.facts.recipe.get(MEASURED_SET) for policy in policies}
    print(f"{found.name}: prompts of the set {chosen}{', held out' if held_out else ''}")
    prompts = read_prompts(found.tokens, chosen)
    opening = [{"role": "system", "content": system}] if system else []
    return [
        (
            Question(f"{found.name}: {prompt.id}", {}, messages),
            _asked(messages, held_out, prompt.group),
        )
        for prompt in prompts
        for messages in ([*opening, *map(_turn, prompt.messages)],)
    ]


def _turn(message: "Mapping[str, Any]") -> dict[str, str]:
    return {"role": str(message["role"]), "content": str(message["content"])}


def _asked(messages: "Sequence[Mapping[str, str]]", held_out: bool, group: str) -> "Asked":
    from posttrain.align.pairs import Turn
    from posttrain.evaluate.blind import Asked

    turns = tuple(Turn(role=turn["role"], content=turn["content"]) for turn in messages)
    return Asked(turns, held_out=held_out, group=group)
