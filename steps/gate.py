"""The gate anew, and the report that a person reads before answering."""

from typing import Annotated

from zenml import step
from zenml.types import HTMLString

from posttrain.approvals import Proposal
from posttrain.decisions import RegisteredVersion
from posttrain.recipe.approval import ApprovalRecipe
from posttrain.reports import Evaluation
from steps._alerts import on_failure


@step(enable_cache=False, on_failure=on_failure)
def gate(
    version: RegisteredVersion, evaluation: Evaluation, recipe: ApprovalRecipe
) -> tuple[Annotated[Proposal, "proposal"], Annotated[HTMLString, "report"]]:
    """Judge the version beside the champion of this moment; show it."""
    from posttrain.registry.approval import page, propose

    proposal = propose(version, recipe.gate)
    return proposal, HTMLString(page(proposal, evaluation))
