"""Lengths and packing."""

from typing import Literal

from pydantic import PositiveInt

from posttrain.recipe.section import Section


class TokenizeRecipe(Section):
    """How text becomes token ids. Nothing is padded at rest."""

    max_length: PositiveInt
    """Longest conversation, in tokens; longer examples and pairs are dropped and counted."""

    block_size: PositiveInt
    """Longest block of Base FT, in tokens."""

    packing: Literal["best_fit", "concatenate"] = "best_fit"
    """`best_fit` splits only documents longer than a block; `concatenate` cuts wherever a block
    ends. Either way no document attends to another."""

    learn_prompts: bool = False
    """Supervise prompt tokens in SFT too."""
