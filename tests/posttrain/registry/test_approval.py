"""A version put before a person, and the answer carried out: the library's part, without ZenML."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from posttrain.approvals import Answer, Proposal
from posttrain.artifacts import BaseModel
from posttrain.evaluate.report import render
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry import approval, promotions
from posttrain.registry.promote import promote
from posttrain.registry.promotions import champion_of
from tests import samples
from tests.posttrain.registry.test_promote import registered

GATE = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.85),), automatic=False)
YES = Answer(decision="approve", who="Kim", why="reads well")


@pytest.fixture
def base(registry: MlflowClient, tmp_path: Path) -> BaseModel:
    return samples.base_model(tmp_path / "base")


def proposed(base: BaseModel, accuracy: float) -> Proposal:
    """A version that a run's gate has judged, put before a person."""
    promote(*registered(base, accuracy), GATE)
    return approval.propose(approval.challenger("museum", "challenger")[0], None)


def test_an_approval_moves_the_alias_once(registry: MlflowClient, base: BaseModel) -> None:
    asked = proposed(base, 0.9)
    first = approval.decide(asked, YES, "Kim")
    assert approval.decide(asked, YES, "Kim") == first  # a step that was killed runs again
    assert len(promotions.history(registry, "museum")) == 1
    assert champion_of(registry, "museum") == 1


def test_a_rejection_is_written_down_once(registry: MlflowClient, base: BaseModel) -> None:
    asked = proposed(base, 0.9)
    no = Answer(decision="reject", who="Kim", why="too curt")
    assert approval.decide(asked, no, "Kim") == approval.decide(asked, no, "Kim")
    (line,) = promotions.history(registry, "museum")
    assert (line.action, line.version, line.to_version) == ("reject", 1, None)


def test_a_killed_steps_line_is_found_behind_what_others_wrote(
    registry: MlflowClient, base: BaseModel
) -> None:
    asked, other, bad = (proposed(base, accuracy) for accuracy in (0.9, 0.95, 0.5))
    no = Answer(decision="reject", who="Lee", why="too curt")
    yes, rejected = approval.decide(asked, YES, "Kim"), approval.decide(other, no, "Lee")
    promotions.reject(registry, "museum", bad.version, who="Kim", why="worse")
    assert approval.decide(asked, YES, "Kim") == yes
    assert approval.decide(other, no, "Lee") == rejected
    assert promotions.history(registry, "museum")[-1].version == bad.version


def test_the_same_words_about_an_earlier_question_are_no_answer(
    registry: MlflowClient, base: BaseModel
) -> None:
    no = Answer(decision="reject", who="Lee", why="too curt")
    first = approval.decide(proposed(base, 0.9), no, "Lee")
    again = approval.propose(approval.challenger("museum", "1")[0], None)
    assert approval.decide(again, no, "Lee").number > first.number


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"who": "Kim (account lee)"}, True),
        ({"why": "reads well; against the gate, of which 1 rule fails: mended"}, True),
        ({"who": "Lee"}, False),
        ({"who": "Kimberley"}, False),
        ({"action": "reject"}, False),
        ({"why": "too curt"}, False),
    ],
)
def test_an_answers_line_is_told_by_who_what_and_why(
    registry: MlflowClient, base: BaseModel, change: dict[str, str], is_same: bool
) -> None:
    line = approval.decide(proposed(base, 0.9), YES, "Kim").model_copy(update=change)
    untidy = YES.model_copy(update={"why": " reads\n well "})
    assert approval.is_of(line, YES) is approval.is_of(line, untidy) is is_same


def test_an_overruling_reason_is_found_again_however_it_was_typed(
    registry: MlflowClient, base: BaseModel
) -> None:
    asked = proposed(base, 0.5)
    untidy = Answer(decision="overrule", who="Kim ", why="an urgent\nmend ")
    assert approval.decide(asked, untidy, "Kim ") == approval.decide(asked, untidy, "Kim ")
    assert [line.action for line in promotions.history(registry, "museum")] == ["refuse", "approve"]


def test_the_champion_is_not_put_before_anybody(registry: MlflowClient, base: BaseModel) -> None:
    approval.decide(proposed(base, 0.9), YES, "Kim")
    with pytest.raises(ValueError, match="museum: version 1 is the champion already"):
        approval.challenger("museum", "challenger")


def test_an_approval_against_another_champion_says_what_to_do(
    registry: MlflowClient, base: BaseModel
) -> None:
    asked, other = proposed(base, 0.9), proposed(base, 0.95)
    approval.decide(other, YES, "Lee")
    with pytest.raises(ValueError, match=r"Ask anew.*posttrain registry approve 1"):
        approval.decide(asked, YES, "Kim")
    assert champion_of(registry, "museum") == 2


def test_what_the_gate_refuses_is_overruled_by_name_alone(
    registry: MlflowClient, base: BaseModel
) -> None:
    asked = proposed(base, 0.5)
    with pytest.raises(ValueError, match="the gate refuses version 1"):
        approval.decide(asked, YES, "Kim")
    overruling = Answer(decision="overrule", who="Kim", why="an urgent mend")
    line = approval.decide(asked, overruling, "Kim")
    assert line.why.startswith("an urgent mend")
    assert [outcome.passed for outcome in line.outcomes] == [False]
    assert approval.decide(asked, overruling, "Kim") == line


def test_rules_may_be_given_in_place_of_the_runs(registry: MlflowClient, base: BaseModel) -> None:
    asked = proposed(base, 0.9)
    assert asked.passed
    stricter = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.99),))
    again = approval.propose(approval.challenger("museum", "1")[0], stricter)
    assert not again.passed
    assert "at least 0.99" in again.question


def test_the_page_has_the_new_word_on_top(registry: MlflowClient, base: BaseModel) -> None:
    version, evaluation = approval.challenger(*_put(base, 0.5))
    page = approval.page(approval.propose(version, None), evaluation)
    assert "museum 1" in page
    assert page.index("0.85") < page.index("</table>")


def test_the_page_is_the_runs_own_where_it_is_there(
    registry: MlflowClient, base: BaseModel
) -> None:
    version, evaluation = approval.challenger(*_put(base, 0.5))
    proposal = approval.propose(version, None)
    assert "The curves are with the run" in approval.page(proposal, evaluation)
    run_id = registry.get_model_version("museum", "1").run_id
    assert run_id is not None
    stored = render(evaluation, samples.histories("sft"), (), None, {}, None, "ko")
    registry.log_text(run_id, stored, "report.html")
    page = approval.page(proposal, evaluation)
    assert page.count("<svg") == stored.count("<svg")
    assert "<title>승격 불가" in page and "0.85" in page[: page.index("</table>")]
    anew = evaluation.model_copy(update={"policy_hash": "0" * 64, "report_language": "ko"})
    assert '<html lang="ko">' in (made := approval.page(proposal, anew))
    assert "The curves are with the run" in made


def _put(base: BaseModel, accuracy: float) -> tuple[str, str]:
    promote(*registered(base, accuracy), GATE)
    return "museum", "1"
