"""The champion alias moves by the rules alone."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from posttrain.artifacts import BaseModel
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.registry import promote as promotion_of
from posttrain.registry.by_hand import Refused, judge_again, promote_judged
from posttrain.registry.promote import promote
from posttrain.registry.promotions import history, move, reject, roll_back
from tests import samples
from tests.posttrain.registry.versions_of import aliases, registered

GATE = PromotionRecipe(
    limits=(Limit(figure="fact_accuracy.A", at_least=0.85),),
    against_champion=(Comparison(figure="fact_accuracy.A", higher_is_better=True, max_loss=0.02),),
)


@pytest.fixture
def base(registry: MlflowClient, tmp_path: Path) -> BaseModel:
    return samples.base_model(tmp_path / "base")


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


def test_it_is_judged_anew_however_many_are_promoted_meanwhile(
    registry: MlflowClient, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that the clock started beside nine others; each wins while it judges."""
    version, evaluation = registered(base, 0.95)
    rivals = [registered(base, 0.9 + number / 1_000)[0].version for number in range(9)]
    examine, judged = promotion_of.examine, []

    def and_be_late(*given: Any) -> Any:
        found = examine(*given)
        judged.append(given[-1])
        if rivals:
            move(registry, "museum", rivals.pop(0), action="promote", who="a run", why="it passed")
        return found

    monkeypatch.setattr(promotion_of, "examine", and_be_late)
    assert promote(version, evaluation, GATE).promoted
    assert judged == [None, *range(2, 11)]
    assert aliases(registry) == {"challenger": 10, "champion": 1, "previous": 10}


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


def test_the_line_of_a_promotion_holds_the_outcomes(
    registry: MlflowClient, base: BaseModel
) -> None:
    promotion = promote(*registered(base, 0.9), GATE, "kim, run 7")
    (line,) = history(registry, "museum")
    assert (line.action, line.who, line.to_version) == ("promote", "kim, run 7", 1)
    assert line.outcomes == promotion.outcomes


def test_a_repeated_run_adds_no_line(registry: MlflowClient, base: BaseModel) -> None:
    for _ in range(2):
        assert promote(*registered(base, 0.9), GATE).promoted
    assert len(history(registry, "museum")) == 1


def test_a_run_does_not_promote_what_a_person_took_back(
    registry: MlflowClient, base: BaseModel
) -> None:
    promote(*registered(base, 0.9), GATE)
    promote(*registered(base, 0.95), GATE)
    roll_back(registry, "museum", who="lee", why="wrong answers")
    again = promote(*registered(base, 0.95), GATE)
    assert not again.promoted
    assert again.reasons[0].startswith("version 2 was taken back by lee on 20")
    assert "(wrong answers); a person may promote it: posttrain registry" in again.reasons[0]
    assert all(outcome.passed for outcome in again.outcomes)
    assert aliases(registry) == {"challenger": 2, "champion": 1}
    assert promote(*registered(base, 0.96), GATE).promoted


def test_a_run_does_not_promote_what_a_person_rejected(
    registry: MlflowClient, base: BaseModel
) -> None:
    version, evaluation = registered(base, 0.9)
    reject(registry, "museum", 1, who="lee", why="rude")
    assert registered(base, 0.9)[0] == version.model_copy(update={"is_new": False})
    assert aliases(registry) == {}
    assert not promote(version, evaluation, GATE).promoted


def test_a_run_does_not_bring_back_what_was_replaced(
    registry: MlflowClient, base: BaseModel
) -> None:
    limits = GATE.model_copy(update={"against_champion": ()})
    first = registered(base, 0.9)
    promote(*first, limits)
    promote(*registered(base, 0.95), limits)
    again = promote(*first, limits)
    assert not again.promoted
    assert "was champion from" in again.reasons[0]
    assert aliases(registry)["champion"] == 2


def test_a_person_judges_by_the_rules_of_the_versions_run(
    registry: MlflowClient, base: BaseModel
) -> None:
    promote(*registered(base, 0.9), GATE)
    promote(*registered(base, 0.5), GATE)
    judged = judge_again(registry, "museum", "2")
    assert (judged.champion, len(judged.failed)) == (1, 2)
    with pytest.raises(Refused, match=r"the gate refuses version 2: fact_accuracy\.A of the final"):
        promote_judged(registry, judged, action="promote", who="kim", why="I like it")
    assert aliases(registry)["champion"] == 1
    line = promote_judged(
        registry, judged, action="promote", who="kim", why="I like it", override="a demonstration"
    )
    assert line.why == "I like it; against the gate, of which 2 rules fail: a demonstration"
    assert line.outcomes == judged.outcomes
    assert aliases(registry)["champion"] == 2


def test_a_version_that_no_gate_has_judged_is_not_promoted_by_hand(
    registry: MlflowClient, base: BaseModel
) -> None:
    registered(base, 0.9)
    with pytest.raises(ValueError, match="museum version 1: no run's gate has judged it"):
        judge_again(registry, "museum", "1")
    assert judge_again(registry, "museum", "1", GATE).failed == ()


def test_a_refusal_stands_in_the_history_and_settles_nothing(
    registry: MlflowClient, base: BaseModel
) -> None:
    promote(*registered(base, 0.95), GATE)
    for _ in range(2):  # a repeated run says nothing new
        refusal = promote(*registered(base, 0.9), GATE, "the pipeline")
    first, second = history(registry, "museum")
    assert (first.action, second.action) == ("promote", "refuse")
    assert (second.version, second.from_version, second.to_version) == (2, 1, 1)
    assert second.outcomes == refusal.outcomes
    assert second.why == f"the gate's rules fail: {refusal.reasons[0]}"
    assert aliases(registry) == {"challenger": 2, "champion": 1}
    generous = GATE.model_copy(update={"against_champion": ()})
    assert promote(*registered(base, 0.9), generous).promoted  # no person decided against it
