"""`posttrain chat`: answers by a registered version or an exported folder, loaded and verified."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from posttrain.models.generate import Sampling
    from posttrain.models.voices import Source


def chat(
    alias: Annotated[
        str | None, typer.Option(help="Alias or number of the version; the champion if absent.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Number of the version.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Registered model; may be absent where there is one.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="A folder that `posttrain export` wrote, in its place.")
    ] = None,
    adapter: Annotated[
        Literal["on", "off", "both"],
        typer.Option(help="off: the base alone answers; both: side by side with it."),
    ] = "on",
    prompt: Annotated[str | None, typer.Option(help="Answer this and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Of sampling; greedy if absent.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling, for the first answer.")] = None,
) -> None:
    """Talk to a registered version or an exported folder; /help lists what may be typed.

    Answers are drawn from the plain softmax, as in training and evaluation: there is no top-p.
    Lines may come from a pipe: each is a question, and answers alone go to stdout.
    """
    from cli.conversation import Conversation, converse
    from cli.named import open_source
    from posttrain.models.device import prepare
    from posttrain.recipe.inference import InferenceRecipe

    given = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    recipe = InferenceRecipe.model_validate({k: v for k, v in given.items() if v is not None})
    prepare(recipe.seed)
    source = open_source(name, alias, version, folder)
    sampling = within(source, source.sampling(recipe))
    conversation = Conversation(source, source.load(adapter), sampling, system)
    if prompt is not None:
        conversation.ask(prompt)
        return
    if sys.stdin.isatty():
        print(f"{source.title}. /help lists commands, Ctrl-D ends.", file=sys.stderr)
    converse(conversation)


def within(source: "Source", sampling: "Sampling") -> "Sampling":
    """Answers of at most half the model's positions, so that questions have room."""
    most = max(1, source.max_positions // 2)
    if sampling.max_new_tokens <= most:
        return sampling
    print(
        f"answers have at most {most} tokens: half of the model's {source.max_positions} positions",
        file=sys.stderr,
    )
    return sampling.model_copy(update={"max_new_tokens": most})
