"""Base FT: new knowledge makes a new base."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Tokens
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.train.base_finetune"))
def base_finetune(
    tokens: Tokens, base: BaseModel, recipe: BaseFinetuneRecipe
) -> Annotated[BaseModel, "domain"]:
    """Continue pretraining on the domain's text."""
    from posttrain.launch import run
    from posttrain.train.base_finetune import train

    return run(train, tokens, base, recipe)
