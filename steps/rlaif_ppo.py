"""RLAIF's PPO: a second round, from the aligned policy, by the second score."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.recipe.ppo import PpoRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.align.ppo"))
def rlaif_ppo(
    tokens: Tokens, domain: BaseModel, aligned: Policy, reward: RewardModel, recipe: PpoRecipe
) -> Annotated[Policy, "rlaif_policy"]:
    """Raise the second score without straying far from the aligned policy."""
    from posttrain.align.ppo import train
    from posttrain.launch import run

    return run(train, tokens, domain, aligned, reward, recipe, stage="rlaif")
