"""The gate: is the new version fit to be the champion?"""

from typing import Annotated

from zenml import save_artifact, step

from posttrain.recipe.promotion import PromotionRecipe
from posttrain.reports import Evaluation, Promotion, RegisteredVersion
<<<<<<< HEAD
from steps._lineage import who
=======
from steps._alerts import alert
>>>>>>> wt/report


@step(enable_cache=False)
def promote(
    version: RegisteredVersion, evaluation: Evaluation, recipe: PromotionRecipe
) -> Annotated[Promotion, "promotion"]:
    """Check the limits and the champion; move the alias or say why not."""
    from posttrain.registry.promote import promote
    from posttrain.registry.refusal import PromotionRefused, why

<<<<<<< HEAD
    return promote(version, evaluation, recipe, who())
=======
    promotion = promote(version, evaluation, recipe)
    if promotion.refused:
        if recipe.on_refusal == "fail":
            save_artifact(promotion, "promotion")  # a failed step's outputs are lost
            raise PromotionRefused(why(version, promotion))  # of which the hook tells
        alert(why(version, promotion))
    return promotion
>>>>>>> wt/report
