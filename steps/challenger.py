"""The version that is put before a person."""

from typing import Annotated

from zenml import step

from posttrain.decisions import RegisteredVersion
from posttrain.recipe.approval import ApprovalRecipe
from posttrain.reports import Evaluation
from steps._alerts import on_failure


@step(enable_cache=False, on_failure=on_failure)
def challenger(
    recipe: ApprovalRecipe,
) -> tuple[Annotated[RegisteredVersion, "version"], Annotated[Evaluation, "evaluation"]]:
    """Find the version in the registry, with its evaluation."""
    from posttrain.registry.approval import challenger

    version, evaluation = challenger(recipe.model_name, str(recipe.version))
    return version, evaluation  # ZenML reads the outputs off this line
