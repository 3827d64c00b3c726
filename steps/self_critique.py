"""Constitutional self-critique: the model mends its own answers."""

from typing import Annotated

from zenml import save_artifact, step
from zenml.types import HTMLString

from posttrain.artifacts import BaseModel, Policy, Revisions, Tokens
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.align.self_critique"))
def self_critique(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    policy: Policy,
    recipe: SelfCritiqueRecipe,
) -> tuple[
    Annotated[Policy, "aligned"],
    Annotated[Revisions, "revisions"],
    Annotated[HTMLString, "revisions_report"],
]:
    """Criticise and revise by the constitution, then learn the revisions."""
    from posttrain.align.self_critique import NothingKept, render, train
    from posttrain.launch import run

    try:
        aligned, revisions = run(train, tokens, domain, assistant, policy, recipe)
    except NothingKept as failure:
        # A failed step's outputs are lost: what a person needs to see is saved first.
        page = HTMLString(render(failure.revisions))  # before the store takes the folder's files
        save_artifact(failure.revisions, "revisions")
        save_artifact(page, "revisions_report")
        raise
    return aligned, revisions, HTMLString(render(revisions))
