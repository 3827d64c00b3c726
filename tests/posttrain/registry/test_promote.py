"""The champion alias moves by the rules alone."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from posttrain.artifacts import BaseModel
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.promote import promote
from posttrain.registry.register import register
from posttrain.reports import Evaluation, RegisteredVersion
from tests import samples

GATE = PromotionRecipe(
    limits=(Limit(figure="fact_accuracy.A", at_least=0.85),),
    against_champion=(Comparison(figure="fact_accuracy.A", higher_is_better=True, max_loss=0.02),),
)


@pytest.fixture
def base(registry: MlflowClient, tmp_path: Path) -> BaseModel:
    return samples.base_model(tmp_path / "base")


def registered(
    base: BaseModel, accuracy: float, held_out: str = "f" * 64
) -> tuple[RegisteredVersion, Evaluation]:
    """A version of its own for each accuracy."""
    policy = samples.policy(base.path.parent / f"policy-{accuracy}", base, weights=str(accuracy))
    figures = {"fact_accuracy.A": accuracy}
    evaluation = samples.evaluation(policy.content_hash(), held_out, **figures)
    recipe = RegistrationRecipe(model_name="museum")
    return register(base, policy, evaluation, recipe, {}), evaluation


def aliases(registry: MlflowClient) -> dict[str, int]:
    found = registry.get_registered_model("museum").aliases
    return {alias: int(number) for alias, number in found.items()}


def test_what_passes_becomes_the_champion(registry: MlflowClient, base: BaseModel) -> None:
    promotion = promote(*registered(base, 0.9), GATE)
    assert (promotion.promoted, promotion.previous_champion) == (True, None)
    assert promotion.reasons == (
        "fact_accuracy.A of the final stage is 0.9; required: at least 0.85",
    )
    assert aliases(registry) == {"challenger": 1, "champion": 1}
    assert registry.get_model_version("museum", "1").tags["gate"] == "passed"


def test_a_better_one_takes_over(registry: MlflowClient, base: BaseModel) -> None:
    promote(*registered(base, 0.9), GATE)
    promotion = promote(*registered(base, 0.95), GATE)
    assert (promotion.promoted, promotion.previous_champion) == (True, 1)
    assert aliases(registry) == {"challenger": 2, "champion": 2, "previous": 1}


def test_a_worse_one_is_refused_with_figures(registry: MlflowClient, base: BaseModel) -> None:
    promote(*registered(base, 0.95), GATE)
    promotion = promote(*registered(base, 0.9), GATE)
    assert not promotion.promoted
    assert len(promotion.reasons) == 1
    assert promotion.reasons[0].startswith("fact_accuracy.A is 0.9, 0.05 worse than 0.95 of the")
    assert aliases(registry) == {"challenger": 2, "champion": 1}
    assert registry.get_model_version("museum", "2").tags["gate"] == "failed"


def test_other_held_out_data_are_no_ground(registry: MlflowClient, base: BaseModel) -> None:
    promote(*registered(base, 0.9), GATE)
    promotion = promote(*registered(base, 0.99, held_out="e" * 64), GATE)
    assert not promotion.promoted
    assert "other held-out data" in promotion.reasons[0]


def test_the_champion_stays_the_champion(registry: MlflowClient, base: BaseModel) -> None:
    promote(*registered(base, 0.9), GATE)
    version, evaluation = registered(base, 0.95)
    promote(version, evaluation, GATE)
    again = promote(version, evaluation, GATE)
    assert (again.promoted, again.previous_champion) == (True, 1)
    assert again.reasons[0] == "version 2 is already champion"
    assert aliases(registry) == {"challenger": 2, "champion": 2, "previous": 1}


def test_a_person_decides_where_promotion_is_not_automatic(
    registry: MlflowClient, base: BaseModel
) -> None:
    by_hand = GATE.model_copy(update={"automatic": False})
    promotion = promote(*registered(base, 0.9), by_hand)
    assert not promotion.promoted
    assert "a person decides" in promotion.reasons[0]
    assert all(outcome.passed for outcome in promotion.outcomes)
    assert aliases(registry) == {"challenger": 1}


def test_a_promotion_that_was_killed_midway_is_finished(
    registry: MlflowClient, base: BaseModel
) -> None:
    promote(*registered(base, 0.9), GATE)
    version, evaluation = registered(base, 0.95)
    registry.set_registered_model_alias("museum", "previous", "1")  # killed before the second write
    assert promote(version, evaluation, GATE).previous_champion == 1
    assert aliases(registry) == {"challenger": 2, "champion": 2, "previous": 1}


def test_an_evaluation_of_another_policy_is_refused(
    registry: MlflowClient, base: BaseModel
) -> None:
    version, _ = registered(base, 0.9)
    with pytest.raises(ValueError, match="evaluate the version that is promoted"):
        promote(version, samples.evaluation("0" * 64), GATE)
