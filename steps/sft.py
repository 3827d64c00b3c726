"""SFT: the domain base learns to answer."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.recipe.sft import SftRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.train.sft"))
def sft(tokens: Tokens, domain: BaseModel, recipe: SftRecipe) -> Annotated[Policy, "assistant"]:
    """Fit what the assistant says."""
    from posttrain.launch import run
    from posttrain.train.sft import train

    return run(train, tokens, domain, recipe)
