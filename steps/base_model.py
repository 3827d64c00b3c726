"""The model that everything starts from."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Records
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.preflight import Preflight
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.models.base"))
def base_model(
    records: Records, recipe: BaseModelRecipe, preflight: Preflight
) -> Annotated[BaseModel, "base"]:
    """Resolve or make the base, and check what later stages will ask of it."""
    from posttrain.cost import measured
    from posttrain.models.base import resolve

    return measured(resolve, records, recipe, preflight)
