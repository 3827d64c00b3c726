"""A registered version whose base and policy are real and tiny."""

from pathlib import Path

import torch
from mlflow import MlflowClient

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts
from posttrain.models.adapters import adapter_weights, new_adapter, save_adapter
from posttrain.models.load import load_base
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.registry.register import register
from tests import samples


def make_policy(base: BaseModel, folder: Path) -> Policy:
    """An adapter of noise, so loud that its greedy answers are not its base's."""
    model = new_adapter(load_base(base), LoraRecipe(rank=2))
    generator = torch.Generator().manual_seed(1)
    for weight in adapter_weights(model, "default").values():
        torch.nn.init.normal_(weight, std=0.5, generator=generator)
    save_adapter(model, "default", folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method="lora",
        num_trainable=1,
        num_adapted_modules=14,
        recipe={},
        figures={},
    )
    return Policy.write(folder, "sft", facts)


def register_museum(registry: MlflowClient, base: BaseModel, policy: Policy) -> MlflowClient:
    """Version 1 of `museum`, without a champion."""
    evaluation = samples.evaluation(policy.content_hash())
    register(base, policy, evaluation, RegistrationRecipe(model_name="museum"), {})
    return registry
