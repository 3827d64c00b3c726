"""The result becomes a version in the registry."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import BaseModel, Policy
from posttrain.decisions import RegisteredVersion
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.reports import Evaluation
from steps._lineage import origin
from steps._started import go_on


@step(enable_cache=False)
def register(
    domain: BaseModel, aligned: Policy, evaluation: Evaluation, recipe: RegistrationRecipe
) -> Annotated[RegisteredVersion, "version"]:
    """Register the policy with its base; the same content is the same version."""
    from posttrain.registry.register import register
    from posttrain.runtime import Runtime
    from posttrain.silence import outlast

    key = Runtime.from_environment().signing_key
    return outlast(go_on(), register, domain, aligned, evaluation, recipe, origin(), key)
