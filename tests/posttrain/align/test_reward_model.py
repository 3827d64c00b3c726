"""The reward model stage on a tiny world: what it learns, writes, and reads back."""

import json

import pytest

from posttrain.align import reward_model
from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.recipe.reward_model import RewardModelRecipe

RECIPE = RewardModelRecipe(
    learning_rate=1e-2,
    num_epochs=12,
    batch_size=20,
    max_new_tokens=8,
    num_samples=16,
    log_every_steps=6,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> None: ...


def test_it_learns_a_separable_preference(
    tokens: Tokens, domain: BaseModel, assistant: Policy
) -> None:
    trained = reward_model.train(tokens, domain, assistant, RECIPE)
    facts = trained.facts
    print(json.dumps(facts.model_dump(), indent=1))
    assert facts.accuracy > 0.9
