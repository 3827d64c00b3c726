"""Conversations and documents as token ids."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Chats, Tokens
from posttrain.recipe.tokenize import TokenizeRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.data.tokenize"))
def tokenize(chats: Chats, base: BaseModel, recipe: TokenizeRecipe) -> Annotated[Tokens, "tokens"]:
    """Encode, count what does not fit, and pad nothing."""
    from posttrain.cost import measured
    from posttrain.data.tokenize import tokenize

    return measured(tokenize, chats, base, recipe)
