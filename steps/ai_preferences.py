"""RLAIF: the assistant judges the answers that self-critique drew."""

from typing import Annotated

from zenml import save_artifact, step

from posttrain.artifacts import AiPreferences, BaseModel, Policy, Revisions, Tokens
from posttrain.recipe.rlaif import RlaifRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.align.ai_preferences"))
def ai_preferences(
    tokens: Tokens, domain: BaseModel, assistant: Policy, revisions: Revisions, recipe: RlaifRecipe
) -> Annotated[AiPreferences, "ai_preferences"]:
    """Compare answers in both orders, and keep what the judge is sure of."""
    from posttrain.align.ai_preferences import NothingPreferred, prefer
    from posttrain.tracking import tracked

    try:
        return tracked(prefer, tokens, domain, assistant, revisions, recipe)
    except NothingPreferred as failure:
        save_artifact(failure.preferences, "ai_preferences")  # a failed step's outputs are lost
        raise
