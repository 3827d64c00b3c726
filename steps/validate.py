"""Rows that may be trained on, and those that may not."""

from typing import Annotated

from zenml import save_artifact, step
from zenml.types import HTMLString

from posttrain.artifacts import Quarantine, Records
from posttrain.recipe.validation import ValidationRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.data.validate"))
def validate(
    records: Records, recipe: ValidationRecipe
) -> tuple[
    Annotated[Records, "records"],
    Annotated[Quarantine, "quarantine"],
    Annotated[HTMLString, "data_report"],
]:
    """Quarantine rows that break a rule; fail where too many of a role do."""
    from posttrain.cost import measured
    from posttrain.data.validate import validate

    validated = measured(validate, records, recipe)
    report = HTMLString(validated.report_html)
    if validated.failures:
        # A failed step's outputs are lost: what a person needs to see is saved first.
        save_artifact(validated.quarantine, "quarantine")
        save_artifact(report, "data_report")
        raise ValueError("; ".join(validated.failures))
    return validated.records, validated.quarantine, report
