"""A person's answer, carried out."""

from typing import Annotated

from zenml import step

from posttrain.approvals import Answer, Proposal
from posttrain.decisions import HistoryEntry
from steps._alerts import on_failure
from steps._waiting import signed


@step(enable_cache=False, on_failure=on_failure)
def decide(proposal: Proposal, answer: Answer) -> Annotated[HistoryEntry, "decision"]:
    """Move the alias, or record the rejection."""
    from posttrain.registry.approval import decide

    return decide(proposal, answer, signed(proposal, answer))
