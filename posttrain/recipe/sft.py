"""SFT: supervised fine-tuning on conversations."""

from typing import Literal

from posttrain.recipe.train import LoraRecipe, TrainRecipe


class SftRecipe(TrainRecipe):
    """Assistant-only loss on packed conversations; TRL's SFTTrainer."""

    method: Literal["lora", "full"] = "lora"
    """What is trained."""

    lora: LoraRecipe = LoraRecipe()
    """Used with `method: lora`."""
