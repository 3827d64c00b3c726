"""Records as conversations."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Chats, Records
from posttrain.recipe.template import TemplateRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.data.template"))
def template(
    records: Records, base: BaseModel, recipe: TemplateRecipe
) -> Annotated[Chats, "chats"]:
    """Bring records into messages under the base's chat template."""
    from posttrain.cost import measured
    from posttrain.data.template import template

    return measured(template, records, base, recipe)
