"""A person decides: the gate anew, the report, a wait for the answer, the alias moved."""

from zenml import pipeline

from posttrain.recipe.approval import ApprovalRecipe
from steps._started import started_by
from steps._waiting import ask
from steps.challenger import challenger
from steps.decide import decide
from steps.gate import gate


# depends_on: else ZenML passes over `steps:` of the run's YAML. A dynamic pipeline's own
# `on_failure` runs outside of any step: the steps bear the hook themselves.
@pipeline(
    dynamic=True,
    enable_cache=False,
    depends_on=[challenger, gate, decide],
    extra=started_by(),
)
def promotion(recipe: ApprovalRecipe) -> None:
    """Put a version of the registry before a person and carry the answer out."""
    version, evaluation = challenger(recipe)
    proposal, _ = gate(version, evaluation, recipe)
    answer = ask(proposal.load(), recipe)
    decide(proposal, answer)
