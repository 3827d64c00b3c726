"""Approve, promote, reject and roll back, as the registry then tells them."""

from html import unescape

import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from posttrain.registry import promotions
from tests.cli.review.museum import NAME, SCRIPT, aliases, post

HERE = f"/models/{NAME}"


def decided(site: TestClient, number: int, **changed: str) -> tuple[int, str, str]:
    at = f"{HERE}/versions/{number}"
    form = {"decision": "approve", "who": "Kim", "why": "better", "expected": "1"}
    return post(site, at, f"{at}/decision", {**form, **changed})


def last(museum: MlflowClient) -> tuple[str, int | None, str, str]:
    entry = promotions.history(museum, NAME)[-1]
    return entry.action, entry.version, entry.who, entry.why


@pytest.mark.parametrize("decision", ["approve", "promote"])
def test_a_version_that_passes_becomes_champion(
    site: TestClient, museum: MlflowClient, decision: str
) -> None:
    status, _, where = decided(site, 2, decision=decision)
    assert (status, where) == (303, f"{HERE}/versions/2?done={decision}")
    found = aliases(museum)
    assert (found["champion"], found["previous"]) == (2, 1)
    assert last(museum) == (decision, 2, "Kim", "better")
    assert "Version 2" in site.get(where).text


def test_the_gates_outcomes_go_into_the_history(site: TestClient, museum: MlflowClient) -> None:
    decided(site, 2)
    (outcome,) = promotions.history(museum, NAME)[-1].outcomes
    assert (outcome.figure, outcome.passed) == ("fact_accuracy.A", True)


def test_what_the_gate_refuses_needs_a_tick(site: TestClient, museum: MlflowClient) -> None:
    status, page, _ = decided(site, 3, why="I like it")
    assert status == 409
    assert "Fact accuracy A of the final stage is 0.5 " in page
    assert ">I like it</textarea>" in page
    assert aliases(museum)["champion"] == 1

    status, _, _ = decided(site, 3, overrule="yes")
    assert status == 303
    assert aliases(museum)["champion"] == 3
    assert "against the gate" in last(museum)[3]


def test_a_version_is_rejected(site: TestClient, museum: MlflowClient) -> None:
    status, _, where = decided(site, 3, decision="reject", why="answers are wrong")
    assert (status, where) == (303, f"{HERE}/versions/3?done=reject")
    found = aliases(museum)
    assert found["champion"] == 1 and "challenger" not in found
    assert last(museum) == ("reject", 3, "Kim", "answers are wrong")


def test_a_rollback_gives_the_place_back(site: TestClient, museum: MlflowClient) -> None:
    decided(site, 2)
    form = {"who": "이도현", "why": "말투가 나빠졌습니다", "expected": "2"}
    status, _, where = post(site, f"{HERE}/history", f"{HERE}/rollback", form)
    assert (status, where) == (303, f"{HERE}/history?done=rollback")
    assert aliases(museum)["champion"] == 1
    assert last(museum) == ("rollback", 2, "이도현", "말투가 나빠졌습니다")
    assert "말투가 나빠졌습니다" in site.get(where).text


def test_a_page_that_is_out_of_date_decides_nothing(site: TestClient, museum: MlflowClient) -> None:
    promotions.move(museum, NAME, 2, action="promote", who="Lee", why="first")
    status, page, _ = decided(site, 3, overrule="yes")
    assert status == 409
    assert "The champion changed while you were looking" in page
    status, _, _ = post(
        site, f"{HERE}/history", f"{HERE}/rollback", {"who": "K", "why": "x", "expected": "1"}
    )
    assert status == 409
    assert aliases(museum)["champion"] == 2


@pytest.mark.parametrize("missing", ["who", "why"])
@pytest.mark.parametrize("text", ["", "   ", "x" * 2001, "\u200b\u3164"])
def test_name_and_reason_are_needed(
    site: TestClient, museum: MlflowClient, missing: str, text: str
) -> None:
    status, page, _ = decided(site, 2, **{missing: text})
    assert status == 400
    assert "Your name and a reason are needed" in page
    assert aliases(museum)["champion"] == 1


def test_an_unknown_decision_is_refused(site: TestClient, museum: MlflowClient) -> None:
    assert decided(site, 2, decision="delete")[0] == 400
    assert aliases(museum)["champion"] == 1


def test_the_champion_is_not_rejected(site: TestClient, museum: MlflowClient) -> None:
    promotions.move(museum, NAME, 2, action="promote", who="Lee", why="first")
    at = f"{HERE}/versions/1"
    form = {"decision": "reject", "who": "Kim", "why": "x", "expected": "2"}
    status, page, _ = post(site, at, f"{HERE}/versions/2/decision", form)
    assert status == 409
    assert "Version 2 is the champion." in unescape(page)


def test_the_box_to_tick_is_there_where_the_gate_refuses_by_now(
    site: TestClient, museum: MlflowClient
) -> None:
    museum.set_model_version_tag(NAME, "3", "gate", "passed")
    assert 'name="overrule"' not in site.get(f"{HERE}/versions/3").text
    status, page, _ = decided(site, 3)
    assert status == 409
    assert 'name="overrule"' in page


def test_refusals_are_told_in_the_readers_language(site: TestClient, museum: MlflowClient) -> None:
    site.cookies.set("posttrain_language", "ko")
    at, form = f"{HERE}/versions/2", {"who": "Kim", "why": "x", "expected": "1"}
    to = f"{HERE}/versions/1/decision"
    status, page, _ = post(site, at, to, {"decision": "reject", **form})
    assert status == 409
    assert "버전 1이 현재 챔피언입니다." in page


def test_without_zenml_nothing_is_answered_and_promotion_goes_on(
    site: TestClient, museum: MlflowClient, no_zenml: None
) -> None:
    status, page, _ = decided(site, 2)
    assert (status, aliases(museum)["champion"]) == (503, 1)
    assert "ZenML does not answer" in page
    assert decided(site, 2, decision="promote")[0] == 303
    assert aliases(museum)["champion"] == 2


def test_names_and_reasons_are_text_everywhere(site: TestClient, museum: MlflowClient) -> None:
    decided(site, 2, who=SCRIPT[:90], why=f"{SCRIPT}\n\"'><img src=x onerror=alert(1)>")
    for path in (HERE, f"{HERE}/versions/2", f"{HERE}/history"):
        page = site.get(path).text
        assert "&lt;script&gt;" in page
        assert "<script" not in page and "<img" not in page


def test_the_name_is_filled_in_next_time(site: TestClient) -> None:
    decided(site, 2, who="이도현")
    assert 'value="이도현"' in site.get(f"{HERE}/versions/3").text
