"""Base FT: continued pretraining on the domain's text."""

from typing import Any, Literal

from pydantic import ConfigDict, model_validator

from posttrain.recipe.train import LoraRecipe, TrainRecipe


def _only_for_training(schema: dict[str, Any]) -> None:
    """For editors: what `method: none` needs no value of."""
    schema["if"] = {"not": {"properties": {"method": {"const": "none"}}}}
    schema["then"] = {"required": schema["required"]}
    schema["required"] = ["method"]


class BaseFinetuneRecipe(TrainRecipe):
    """Next-token training on blocks; makes a new base."""

    model_config = ConfigDict(json_schema_extra=_only_for_training)

    method: Literal["full", "lora", "none"]
    """`none` hands the base on unchanged, and needs no other field."""

    lora: LoraRecipe = LoraRecipe()
    """Used with `method: lora`."""

    @model_validator(mode="before")
    @classmethod
    def none_needs_no_more(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("method") == "none":
            return dict.fromkeys(("learning_rate", "num_epochs", "batch_size"), 1) | data
        return data
