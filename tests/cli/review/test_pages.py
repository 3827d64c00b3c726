"""Each page tells what the registry holds, in two languages, and models' HTML as text."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from fastapi.testclient import TestClient
from markupsafe import escape
from mlflow import MlflowClient

from cli import review
from cli.review.decisions import DECISIONS
from cli.review.desk import Desk
from cli.review.version import DONE
from cli.review.words import LANGUAGES, catalogue, preferred, with_particles
from posttrain.approvals import Decision
from posttrain.decisions import HistoryEntry
from posttrain.evaluate.report import render
from posttrain.registry import promotions
from posttrain.registry.versions import read_evaluation
from tests.cli.review.museum import NAME, SCRIPT, browser_of

HERE = f"/models/{NAME}"
TODAY = f"{datetime.now(UTC):%Y-%m-%d}"
MADE = re.compile(r"(nav|language|alias|gate|did|role|turn|verdict|result|refused|state)_")
"""Keys that are made of a word of the registry, or of a path."""
PAGES = (
    HERE,
    f"{HERE}/versions/3",
    f"{HERE}/compare?a=1&b=3",
    f"{HERE}/history",
    f"{HERE}/blind",
    f"{HERE}/blind/1/2",
    f"{HERE}/blind/1/2/results",
)


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_only_model_is_shown_at_once(site: TestClient) -> None:
    answer = site.get("/?lang=ko")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{HERE}?lang=ko")


def test_versions_stand_with_aliases_gate_and_decision(site: TestClient) -> None:
    page = text_of(site.get(HERE).text)
    assert "champion Version 1" in page
    assert "challenger Version 3" in page
    assert re.search(r"Version 3 challenger .* Refused 0 of 1 rules hold", page)
    assert re.search(
        r"Version 1 champion .* Passed 1 of 1 rules hold .* Promoted the pipeline", page
    )


def test_a_version_shows_figures_gate_lineage_card_and_links(site: TestClient) -> None:
    page = site.get(f"{HERE}/versions/2").text
    text = text_of(page)
    assert "Fact accuracy A 0.97 0.94–1.00 150" in text
    assert "Met Fact accuracy A of the final stage is 0.97 (95 %: " in text
    assert "git_commit 3d46a12" in text
    assert "Answers visitors." in text
    assert 'href="http://127.0.0.1:8237/projects/default/runs/0f0e"' in page
    assert f'href="http://127.0.0.1:5000/#/models/{NAME}/versions/2"' in page
    assert f'href="{HERE}/compare?a=1&amp;b=2"' in page


def test_two_versions_stand_side_by_side(site: TestClient) -> None:
    text = text_of(site.get(f"{HERE}/compare?a=1&b=3").text)
    assert "Version 1 and version 3" in text
    assert re.search(r"Fact accuracy A 0.95 [\d.–]+ 0.50 [\d.–]+ −0.45 ", text)
    assert "저기요, 달무리실 관람료 좀요." in text
    assert str(escape(SCRIPT)) in text


def test_a_comparison_without_a_choice_takes_champion_and_challenger(site: TestClient) -> None:
    assert "Version 1 and version 3" in site.get(f"{HERE}/compare").text


def test_the_report_stands_at_its_own_address_in_a_sandbox(site: TestClient) -> None:
    answer = site.get(f"{HERE}/versions/2/report")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "allow-scripts" not in policy
    assert answer.text.startswith("<!doctype html>")


def test_a_report_of_a_run_stands_under_the_gates_later_word(
    site: TestClient, museum: MlflowClient, tmp_path: Path
) -> None:
    version = museum.get_model_version(NAME, "3")
    assert version.run_id is not None
    evaluation = read_evaluation(museum, version)
    assert evaluation is not None
    fit = render(evaluation, {}, (), {}, {}, language="en")  # no rule had been asked then
    (tmp_path / "report.html").write_text(fit, encoding="utf-8")
    museum.log_artifact(version.run_id, str(tmp_path / "report.html"))
    promotions.reject(museum, NAME, 3, who="Kim", why=SCRIPT)
    page = site.get(f"{HERE}/versions/3/report").text
    box = page[page.index("<main>") : page.index("<header>")]
    text = text_of(box)
    assert "The gate on version 3: Refused" in text
    assert "버전 3에 대한 게이트 판정: 미통과" in text
    assert "Fact accuracy A of the final stage is 0.5 " in text
    assert f"Rejected 반려 : Kim, {TODAY}" in text
    assert str(escape(SCRIPT)) in box and "<script" not in page


def test_history_tells_who_and_why(site: TestClient, museum: MlflowClient) -> None:
    text = text_of(site.get(f"{HERE}/history").text)
    assert "#1" in text and "Promoted Version 1" in text
    assert "Champion: version – → version 1" in text


@pytest.mark.parametrize("path", PAGES)
def test_what_models_wrote_is_text(site: TestClient, path: str) -> None:
    for language in LANGUAGES:
        answer = site.get(path, headers={"accept-language": language})
        assert answer.status_code == 200, answer.text
        assert "<script" not in answer.text
        assert "javascript:" not in re.findall(r'(?:href|src)="([^"]*)"', answer.text)
        assert " style=" not in answer.text and "onerror=" not in answer.text
        assert f'<html lang="{language}">' in answer.text


def test_no_page_names_another_host_but_by_a_link(site: TestClient) -> None:
    for path in PAGES:
        page = re.sub(r'<a href="http://127\.0\.0\.1[^>]*>', "", site.get(path).text)
        fetched = re.findall(r'(?:src|href|action)="(?!/|#|\?)([^"]*)"', page)
        assert fetched == [], path


def test_every_line_of_the_history_has_a_word() -> None:
    actions = get_args(HistoryEntry.model_fields["action"].annotation)
    states = get_args(HistoryEntry.model_fields["state"].annotation)
    wanted = {f"did_{action}" for action in actions} | {f"state_{one}" for one in states[::2]}
    assert wanted <= {*catalogue("en")}


def test_every_text_is_used() -> None:
    source = "".join(
        file.read_text(encoding="utf-8")
        for file in Path(review.__file__).parent.rglob("*")
        if file.suffix in (".py", ".html")
    )
    made = {f"done_{one}" for one in DONE} | {f"answer_{one}" for one in get_args(Decision)}
    made |= {one for one in catalogue("en") if MADE.match(one)}
    unused = {one for one in catalogue("en") if not re.search(rf"['\"]{one}['\"]", source)} - made
    assert unused == set()


def test_every_decision_has_words() -> None:
    wanted = {*DECISIONS} | {f"done_{one}" for one in DONE}
    wanted |= {f"answer_{one}" for one in get_args(Decision)}
    assert wanted <= {*catalogue("en")}


def test_a_particle_goes_by_the_number() -> None:
    numbers = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 100)
    said = " ".join(with_particles(f"{n}을(를) {n}이(가) {n}(으)로") for n in numbers)
    assert said == (
        "0을 0이 0으로 1을 1이 1로 2를 2가 2로 3을 3이 3으로 4를 4가 4로 5를 5가 5로 6을 6이 6으로 "
        "7을 7이 7로 8을 8이 8로 9를 9가 9로 10을 10이 10으로 12를 12가 12로 100을 100이 100으로"
    )


def test_the_way_back_is_told_in_korean(site: TestClient, museum: MlflowClient) -> None:
    promotions.move(museum, NAME, 2, action="promote", who="Lee", why="first")
    page = site.get(f"{HERE}/history", headers={"accept-language": "ko"}).text
    assert "챔피언을 버전 2에서 버전 1로 되돌립니다." in page


def test_without_zenml_the_pages_tell_what_mlflow_holds(site: TestClient, no_zenml: None) -> None:
    for path in (HERE, f"{HERE}/versions/2", f"{HERE}/versions/2/report"):
        answer = site.get(path)
        assert answer.status_code == 200, path
        assert "ZenML does not answer" in answer.text or path.endswith("report")
    page = site.get(f"{HERE}/versions/3").text
    assert 'value="promote"' in page and 'value="approve"' not in page


def test_catalogues_have_the_same_texts_with_the_same_values() -> None:
    first, *others = (catalogue(language) for language in LANGUAGES)
    for other in others:
        assert list(other) == list(first)
        for key, text in first.items():
            assert sorted(re.findall(r"{(\w+)}", other[key])) == sorted(
                re.findall(r"{(\w+)}", text)
            ), key


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("fr,ko;q=0.4,en;q=0.3", "ko"),
        ("fr", "en"),
        ("", "en"),
        ("ko;q=nonsense,en", "en"),
    ],
)
def test_the_browsers_language_is_spoken(header: str, language: str) -> None:
    assert preferred(header) == language


def test_the_switch_is_remembered(site: TestClient) -> None:
    assert '<html lang="ko">' in site.get(f"{HERE}?lang=ko").text
    assert '<html lang="ko">' in site.get(HERE, headers={"accept-language": "en"}).text
    assert '<html lang="en">' in site.get(f"{HERE}?lang=en").text


def test_an_unknown_language_changes_nothing(site: TestClient) -> None:
    assert '<html lang="en">' in site.get(f"{HERE}?lang=../../etc").text


@pytest.mark.parametrize(
    "path",
    [
        "/models/nobody",
        "/models/museum-history",
        f"{HERE}/versions/9",
        f"{HERE}/versions/0",
        f"{HERE}/versions/x",
        f"{HERE}/versions/{10**40}",
        f"{HERE}/versions/9/report",
        f"{HERE}/compare?a=1&b=..",
        f"{HERE}/blind/1/1",
        f"{HERE}/blind/1/9",
        f"{HERE}/blind/1/2?pair=../../../etc/passwd",
        "/models/..%2f..%2fetc",
        "/models/%2e%2e/versions/1",
        "/static/../../etc/passwd",
        "/review.css/../../../pyproject.toml",
        "/docs",
        "/openapi.json",
    ],
)
def test_what_is_not_there_is_404(site: TestClient, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_an_empty_registry_says_what_to_do(
    desk: Desk, museum: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    museum.delete_registered_model(NAME)
    for name in [model.name for model in museum.search_registered_models()]:
        museum.delete_registered_model(name)
    assert "make demo" in browser_of(desk).get("/").text
