"""Rows that may be trained on, and those that may not."""

from typing import Annotated

from zenml import save_artifact, step
from zenml.types import HTMLString

from posttrain.artifacts import Quarantine, Records
from posttrain.facts import sources_digest
from posttrain.recipe.validation import ValidationRecipe
from steps._alerts import alert
from steps._caching import depends_on
from steps._registry import find_registry


@step(cache_policy=depends_on("posttrain.data.validate"))
def validate(
    records: Records, model_name: str, recipe: ValidationRecipe
) -> tuple[
    Annotated[Records, "records"],
    Annotated[Quarantine, "quarantine"],
    Annotated[HTMLString, "data_report"],
]:
    """Quarantine rows that break a rule, compare the rest with the champion's data."""
    from posttrain.cost import measured
    from posttrain.data.validate import validate
    from posttrain.registry.champion import champion_data

    find_registry()
    sources = sources_digest(records.facts.sources)
    champion = champion_data(model_name, sources) if recipe.drift is not None else None
    validated = measured(validate, records, recipe, champion)
    report = HTMLString(validated.report_html)
    if validated.failures:
        # A failed step's outputs are lost: what a person needs to see is saved first.
        save_artifact(validated.quarantine, "quarantine")
        save_artifact(report, "data_report")
        raise ValueError("; ".join(validated.failures))
    if validated.drift is not None and validated.drift.beyond:
        alert(f"data drifted from the champion's: {'; '.join(validated.drift.beyond)}")
    return validated.records, validated.quarantine, report
