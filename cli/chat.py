"""`posttrain chat`: answers by a registered version or an exported folder, loaded and verified."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.options import Alias, Folder, MaxNewTokens, Name, Seed, System, Temperature, Version

if TYPE_CHECKING:
    from posttrain.models.generate import Sampling
    from posttrain.models.voices import Source


def chat(
    alias: Alias = None,
    version: Version = None,
    name: Name = None,
    folder: Folder = None,
    adapter: Annotated[
        Literal["on", "off", "both"],
        typer.Option(help="off: the base alone answers; both: side by side with it."),
    ] = "on",
    prompt: Annotated[str | None, typer.Option(help="Answer this and leave.")] = None,
    system: System = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = None,
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
