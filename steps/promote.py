"""The gate: is the new version fit to be the champion?"""

from typing import Annotated

from zenml import step

from posttrain.recipe.promotion import PromotionRecipe
from posttrain.reports import Evaluation, Promotion, RegisteredVersion
from steps._lineage import who


@step(enable_cache=False)
def promote(
    version: RegisteredVersion, evaluation: Evaluation, recipe: PromotionRecipe
) -> Annotated[Promotion, "promotion"]:
    """Check the limits and the champion; move the alias or say why not."""
    from posttrain.registry.promote import promote

    return promote(version, evaluation, recipe, who())
