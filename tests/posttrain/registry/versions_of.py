"""Versions of the model `museum`, each known by its accuracy."""

from mlflow import MlflowClient

from posttrain.artifacts import BaseModel
from posttrain.decisions import RegisteredVersion
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.register import register
from posttrain.reports import Evaluation
from tests import samples


def registered(
    base: BaseModel, accuracy: float, held_out: str = "f" * 64
) -> tuple[RegisteredVersion, Evaluation]:
    """A version of its own for each accuracy; the same one again for the same."""
    folder = base.path.parent / f"policy-{accuracy}"
    policy = samples.Policy(folder) if folder.exists() else None
    policy = policy or samples.policy(folder, base, weights=str(accuracy))
    evaluation = samples.evaluation(
        policy.content_hash(), held_out, **{"fact_accuracy.A": accuracy}
    )
    return register(
        base, policy, evaluation, RegistrationRecipe(model_name="museum"), {}
    ), evaluation


def aliases(registry: MlflowClient) -> dict[str, int]:
    """Alias -> version."""
    found = registry.get_registered_model("museum").aliases
    return {alias: int(number) for alias, number in found.items()}
