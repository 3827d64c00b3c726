"""Pairs of answers for people to compare, and what is made of their verdicts.

No step takes these: `posttrain preferences` does, after a run.
"""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from posttrain.recipe.section import Section

Writer = Literal["sft", "ppo", "dpo", "self_critique", "rlaif"]
"""A stage whose policy answers prompts."""


class PairsRecipe(Section):
    """Which prompts are answered, by whom and how."""

    between: tuple[Writer, Writer] | None = None
    """The two stages that answer; the same one twice draws two samples of its policy. The run's
    last two policies where absent, or two samples of its only one."""

    prompt_set: str | None = None
    """`set` of the prompts; where absent, one that no stage was trained on, if there is one."""

    num_prompts: PositiveInt = 100
    """Prompts to answer, drawn by the seed; all where there are fewer."""

    temperature: PositiveFloat = 1.0
    """Divides the logits."""

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens; less where the model's positions end. Longer ones are dropped."""

    batch_size: PositiveInt = 64
    """Prompts answered side by side."""

    seed: int = 0
    """Of the prompts drawn, of the answers, and of which answer stands first."""


class VerdictsRecipe(Section):
    """How figures on verdicts are computed."""

    num_bootstrap: PositiveInt = 1_000
    """Resamples behind each 95 % interval."""

    seed: int = 0
    """Of the bootstrap."""
