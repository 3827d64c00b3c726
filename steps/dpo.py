"""DPO: the assistant learns from the pairs themselves."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.recipe.dpo import DpoRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.align.dpo"))
def dpo(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: DpoRecipe
) -> Annotated[Policy, "policy"]:
    """Prefer what people preferred, without straying far from the assistant."""
    from posttrain.align.dpo import train
    from posttrain.tracking import tracked

    return tracked(train, tokens, domain, assistant, recipe)
