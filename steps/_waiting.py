"""ZenML's wait for a person, and who answered."""

from zenml import get_step_context, wait
from zenml.client import Client
from zenml.constants import DEFAULT_USERNAME

from posttrain.approvals import Answer, Proposal
from posttrain.recipe.approval import ApprovalRecipe


def ask(proposal: Proposal, recipe: ApprovalRecipe) -> Answer:
    """Wait for a person; where none answers in time, ZenML pauses the run."""
    answer: Answer = wait(
        schema=proposal.answer_schema,
        question=proposal.question,
        name=proposal.waits_as,
        timeout=round(recipe.wait_minutes * 60),
        poll_interval=recipe.poll_seconds,
    )
    return answer


def signed(proposal: Proposal, answer: Answer) -> str:
    """Who answered: the name given, and the ZenML account that it came from.

    The account that every installation begins with is everybody's, and is not told.
    """
    account = _account(proposal)
    if account in (None, DEFAULT_USERNAME, answer.who):
        return answer.who
    return f"{answer.who} (account {account})"


def _account(proposal: Proposal) -> str | None:
    run = get_step_context().pipeline_run
    client = Client()
    waits = client.list_run_wait_conditions(pipeline_run=run.id, name=proposal.waits_as).items
    user = waits[0].get_body().resolved_by_user_id if waits else None
    return client.get_user(user).name if user else None
