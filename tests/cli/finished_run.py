"""A pipeline of the right name whose steps hand out samples: run in a process of its own."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

from zenml import pipeline, step
from zenml.types import HTMLString

from posttrain.artifacts import Quarantine
from posttrain.decisions import Promotion
from posttrain.evaluate.report import render
from posttrain.facts import QuarantineFacts
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry.gate import judge
from posttrain.reports import Evaluation
from steps._folders import FolderMaterializer
from tests import samples

GATE = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.99),))


@step(output_materializers={"quarantine": FolderMaterializer})
def validate(folder: str) -> Annotated[Quarantine, "quarantine"]:
    """Two roles with failing rows."""
    Path(folder).mkdir()
    rows = {"corpus": {"email": 2, "too_long": 1}, "prompts": {"email": 1}}
    return Quarantine.write(Path(folder), "validate", QuarantineFacts(num_rows=rows))


@step
def evaluate() -> tuple[Annotated[Evaluation, "evaluation"], Annotated[HTMLString, "report"]]:
    """The samples' figures."""
    evaluation = samples.evaluation(last="sft")
    outcomes = judge(evaluation, None, GATE)
    page = render(evaluation, samples.histories(), outcomes, samples.DATA, samples.LINEAGE)
    return evaluation, HTMLString(page)


@step
def promote(evaluation: Evaluation) -> Annotated[Promotion, "promotion"]:
    """A refusal."""
    outcomes = judge(evaluation, None, GATE)
    reasons = tuple(outcome.reason for outcome in outcomes)
    return Promotion(
        version=3, promoted=False, reasons=reasons, outcomes=outcomes, previous_champion=None
    )


@step
def fail() -> None:
    """Always."""
    raise ValueError("on purpose")


@pipeline(name="fine_tuning", enable_cache=False)
def finished(folder: str) -> None:
    """A run as `posttrain report` finds it."""
    validate(folder)
    promote(evaluate()[0])


@pipeline(name="fine_tuning", enable_cache=False)
def failed() -> None:
    """A later one that measured nothing."""
    fail()


if __name__ == "__main__":
    finished(sys.argv[1])
    with contextlib.suppress(RuntimeError):  # ZenML's word for a failed step
        failed()
