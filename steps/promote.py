"""The gate: is the new version fit to be the champion?"""

from typing import Annotated

from zenml import save_artifact, step

from posttrain.decisions import Promotion, RegisteredVersion
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.reports import Evaluation
from steps._alerts import alert
from steps._lineage import who
from steps._started import go_on


@step(enable_cache=False)
def promote(
    version: RegisteredVersion, evaluation: Evaluation, recipe: PromotionRecipe
) -> Annotated[Promotion, "promotion"]:
    """Check the limits and the champion; move the alias or say why not."""
    from posttrain.registry.promote import promote
    from posttrain.registry.refusal import PromotionRefused, why
    from posttrain.silence import outlast

    promotion = outlast(go_on(), promote, version, evaluation, recipe, who())
    if promotion.refused:
        if recipe.on_refusal == "fail":
            save_artifact(promotion, "promotion")  # a failed step's outputs are lost
            raise PromotionRefused(why(version, promotion))  # of which the hook tells
        alert(why(version, promotion))
    return promotion
