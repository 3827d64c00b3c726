"""PPO: the assistant learns from the score."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.recipe.ppo import PpoRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.align.ppo"))
def ppo(
    tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel, recipe: PpoRecipe
) -> Annotated[Policy, "policy"]:
    """Raise the score of the assistant's answers without straying far from it."""
    from posttrain.align.ppo import train
    from posttrain.launch import run

    return run(train, tokens, domain, assistant, reward, recipe)
