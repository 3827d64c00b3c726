"""Base FT: continued pretraining on the domain's text."""

from typing import Literal

from posttrain.recipe.train import LoraRecipe, TrainRecipe


class BaseFinetuneRecipe(TrainRecipe):
    """Next-token training on blocks; makes a new base."""

    method: Literal["full", "lora", "none"]
    """`none` hands the base on unchanged."""

    lora: LoraRecipe = LoraRecipe()
    """Used with `method: lora`."""
