"""Reward model: what people prefer, as a score."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.recipe.reward_model import RewardModelRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.align.reward_model"))
def reward_model(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: RewardModelRecipe
) -> Annotated[RewardModel, "reward"]:
    """Fit a score to preference pairs, starting from the SFT adapter."""
    from posttrain.align.reward_model import train
    from posttrain.launch import run

    return run(train, tokens, domain, assistant, recipe)
