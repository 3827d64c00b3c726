"""RLAIF's reward model: what people and the AI judge prefer, as a score."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import AiPreferences, BaseModel, Policy, RewardModel, Tokens
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.rlaif import RlaifRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.align.reward_model"))
def rlaif_reward_model(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    preferences: AiPreferences,
    recipe: RewardModelRecipe,
    rlaif: RlaifRecipe,
) -> Annotated[RewardModel, "rlaif_reward"]:
    """Fit a second score to human and AI pairs, blended."""
    from posttrain.align.blend import Blend
    from posttrain.align.reward_model import train
    from posttrain.launch import run

    return run(train, tokens, domain, assistant, recipe, Blend(preferences, rlaif))
