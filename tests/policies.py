"""Policies of every method on a tiny base, each far enough from its base to be told from it."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from posttrain.artifacts import BaseModel, Policy, PolicyFacts
from posttrain.contract import trained_on
from posttrain.models.adapters import adapter_weights, new_adapter, save_adapter
from posttrain.models.load import load_base
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, Method, QuantizationRecipe

METHODS: tuple[Method, ...] = ("full", "lora", "qlora", "dora", "bottleneck")


def make_policy(base: BaseModel, method: Method, folder: Path) -> Policy:
    """A policy whose weights are drawn, not trained; the base's own where it is quantised."""
    torch.manual_seed(1)
    quantization = QuantizationRecipe() if method == "qlora" else None
    if method == "full":
        model = load_base(base, trainable=True)
        _move(dict(model.named_parameters()))
        model.save_pretrained(str(folder / "weights"))
    else:
        recipe = BottleneckRecipe(size=4) if method == "bottleneck" else LoraRecipe(rank=4)
        adapted = new_adapter(
            load_base(base, quantization=quantization), recipe, "default", method == "dora"
        )
        _move(adapter_weights(adapted, "default"))
        save_adapter(adapted, "default", folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method=method,
        quantization=quantization,
        num_trainable=1,
        num_adapted_modules=1,
        recipe={"method": method},
        figures={},
    )
    return Policy.write(folder, "sft", facts)


def _move(weights: dict[str, torch.nn.Parameter]) -> None:
    with torch.no_grad():
        for weight in weights.values():
            weight += 0.02 * torch.randn_like(weight)


def logits(model: PreTrainedModel | PeftModel, ids: torch.Tensor) -> torch.Tensor:
    """Logits of every position, in float32."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found.float()
