"""Policies of every method on a tiny base, each far enough from its base to be told from it."""

from pathlib import Path

import torch

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts
from posttrain.models.adapters import adapter_weights, new_adapter, save_adapter
from posttrain.models.load import load_base
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, Method, QuantizationRecipe
from posttrain.registry.register import register
from tests import samples

METHODS: tuple[Method, ...] = ("full", "lora", "qlora", "dora", "bottleneck")
MERGEABLE = METHODS[:-1]


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


def register_policy(base: BaseModel, method: Method, folder: Path, name: str) -> Policy:
    """Such a policy as the next version of `name`, with the samples' figures."""
    policy = make_policy(base, method, folder)
    evaluation = samples.evaluation(policy.content_hash())
    recipe = RegistrationRecipe(model_name=name, summary="Answers visitors.", languages=("ko",))
    register(base, policy, evaluation, recipe, {"git_commit": "3d46a12"})
    return policy


def _move(weights: dict[str, torch.nn.Parameter]) -> None:
    with torch.no_grad():
        for weight in weights.values():
            weight += 0.02 * torch.randn_like(weight)
