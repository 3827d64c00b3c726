"""Base FT: continued pretraining on the domain's text."""

from typing import Any, Literal

from pydantic import model_validator

from posttrain.recipe.train import LoraRecipe, TrainRecipe


class BaseFinetuneRecipe(TrainRecipe):
    """Next-token training on blocks; makes a new base."""

    method: Literal["full", "lora", "none"]
    """`none` hands the base on unchanged."""

    lora: LoraRecipe = LoraRecipe()
    """Used with `method: lora`."""

    @model_validator(mode="before")
    @classmethod
    def none_needs_no_more(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("method") == "none":
            return dict.fromkeys(("learning_rate", "num_epochs", "batch_size"), 1) | data
        return data
