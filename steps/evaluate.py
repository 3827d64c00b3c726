"""Every stage measured by the same questions, in one table and one report."""

from typing import Annotated

from zenml import step
from zenml.types import HTMLString

from posttrain.artifacts import (
    AiPreferences,
    BaseModel,
    Policy,
    Quarantine,
    Revisions,
    RewardModel,
    Tokens,
)
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.reports import Evaluation
from steps._caching import EVALUATE, REPORT, depends_on
from steps._lineage import lineage


@step(cache_policy=depends_on(EVALUATE, *REPORT))
def evaluate(
    tokens: Tokens,
    base: BaseModel,
    domain: BaseModel,
    assistant: Policy,
    quarantine: Quarantine,
    recipe: EvaluationRecipe,
    promotion: PromotionRecipe,
    reward: RewardModel | None = None,
    policy: Policy | None = None,
    aligned: Policy | None = None,
    revisions: Revisions | None = None,
    preferences: AiPreferences | None = None,
    rlaif_reward: RewardModel | None = None,
    rlaif_policy: Policy | None = None,
) -> tuple[Annotated[Evaluation, "evaluation"], Annotated[HTMLString, "report"]]:
    """Measure each stage; the alignment stages are optional: `fine_tuning` has none."""
    from posttrain.evaluate.stages import Stages, evaluate, report

    second = (preferences, rlaif_reward, rlaif_policy)
    stages = Stages(tokens, base, domain, assistant, reward, policy, aligned, revisions, *second)
    evaluation = evaluate(stages, quarantine, recipe)
    page = report(stages, evaluation, promotion, lineage(), recipe.report_language)
    return evaluation, HTMLString(page)
