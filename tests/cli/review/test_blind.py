"""Pairs one by one without their authors; verdicts kept; the file for the next run."""

import json
import re
from html import unescape

import pytest
from fastapi.testclient import TestClient

from cli.review.desk import Desk
from posttrain.evaluate.ballots import PREFERENCES
from posttrain.evaluate.blind import VersionPair
from tests.cli.review.museum import NAME, browser_of, post

HERE = f"/models/{NAME}/blind/1/2"


def start(site: TestClient, who: str = "Kim") -> None:
    assert post(site, HERE, f"{HERE}/rater", {"who": who})[0] == 303


def shown(page: str) -> tuple[str, list[str]]:
    pair = re.search(r'name="pair" value="(\w+)"', page)
    assert pair is not None, page
    return pair[1], [unescape(text) for text in re.findall(r'class="answer">([^<]*)<', page)]


def rate(site: TestClient, choice: str) -> str:
    pair, _ = shown(site.get(HERE).text)
    status, _, where = post(site, HERE, HERE, {"pair": pair, "choice": choice})
    assert (status, where) == (303, f"{HERE}?last={pair}")
    return pair


def by_id(desk: Desk) -> dict[str, VersionPair]:
    return desk.drawn(NAME, (1, 2))


def test_a_rater_has_a_name_first(site: TestClient) -> None:
    page = site.get(HERE).text
    assert "Your name" in page and 'class="answer"' not in page
    start(site)
    assert "Pair 1 of 12" in site.get(HERE).text


def test_the_page_does_not_tell_who_wrote_which(site: TestClient, desk: Desk) -> None:
    start(site)
    page = site.get(HERE).text
    pair_id, texts = shown(page)
    pair = by_id(desk)[pair_id]
    assert texts == [pair.response_1, pair.response_2]
    of_pair = re.search(r'<form class="blind".*?</form>', page, re.DOTALL)
    assert of_pair is not None
    for told in ("version_", "version 1", "version 2", "Version", pair.group or "\0"):
        assert told not in of_pair[0].replace(f'action="{HERE}"', "")
    swapped = {one.version_1 for one in by_id(desk).values()}
    assert swapped == {1, 2}


def test_each_verdict_leads_to_the_next_pair_and_the_last_to_the_end(site: TestClient) -> None:
    start(site)
    seen = [rate(site, "tie") for _ in range(12)]
    assert len(set(seen)) == 12
    assert "Every pair is rated" in site.get(HERE).text


def test_verdicts_become_preferences_and_a_win_rate(site: TestClient, desk: Desk) -> None:
    start(site)
    for _ in range(10):
        pair_id, _ = shown(site.get(HERE).text)
        rate(site, "response_1" if by_id(desk)[pair_id].version_1 == 2 else "response_2")
    rate(site, "tie")
    rate(site, "skip")
    page = " ".join(re.sub(r"<[^>]+>", " ", site.get(f"{HERE}/results").text).split())
    assert "Version 2 is preferred to version 1" in page
    assert "Win rate of version 2 95 %" in page  # 10 wins and a tie of 11
    assert "95 % interval 68 % to 100 %" in page
    assert re.search(r"Ties 1 .* Pairs rated 11 .* Skipped 1 ", page)
    file = desk.ballots(NAME).folder / PREFERENCES
    assert f"preferences: {{source: {file.as_posix()}}}" in page
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 10
    assert all(row["chosen"].startswith("new") for row in rows)


def test_a_verdict_is_changed_and_the_last_one_counts(site: TestClient, desk: Desk) -> None:
    start(site)
    pair = rate(site, "response_1")
    again = site.get(f"{HERE}?pair={pair}").text
    assert shown(again)[0] == pair
    post(site, HERE, HERE, {"pair": pair, "choice": "tie"})
    assert "Ties</th><td>1" in site.get(f"{HERE}/results").text
    assert (desk.ballots(NAME).folder / PREFERENCES).read_text() == ""


def test_two_raters_see_every_pair_each(desk: Desk) -> None:
    first, second = browser_of(desk), browser_of(desk)
    start(first, "Kim")
    start(second, "이도현")
    rate(first, "response_1")
    assert "Pair 2 of 12" in first.get(HERE).text
    assert "Pair 1 of 12" in second.get(HERE).text


@pytest.mark.parametrize(
    "fields",
    [
        {"choice": "response_1", "pair": "nobody"},
        {"choice": "response_3"},
        {"choice": ""},
    ],
)
def test_what_is_no_verdict_is_not_kept(
    site: TestClient, desk: Desk, fields: dict[str, str]
) -> None:
    start(site)
    pair, _ = shown(site.get(HERE).text)
    assert post(site, HERE, HERE, {"pair": pair, **fields})[0] == 404
    assert desk.ballots(NAME).read() == []


def test_nobody_rates_without_a_name(site: TestClient, desk: Desk) -> None:
    pair = next(iter(by_id(desk)))
    assert post(site, HERE, HERE, {"pair": pair, "choice": "tie"})[0] == 404
    assert desk.ballots(NAME).read() == []


def test_without_drawn_pairs_the_stored_answers_serve(site: TestClient) -> None:
    start(site)
    page = site.get(f"/models/{NAME}/blind/1/3").text
    assert "Pair 1 of 1" in page
    assert "These are the few answers that the evaluation kept" in page
    assert "&lt;script&gt;" in page and "<script" not in page


def test_the_choice_lists_what_can_be_compared(site: TestClient) -> None:
    page = " ".join(re.sub(r"<[^>]+>", " ", site.get(f"/models/{NAME}/blind").text).split())
    assert "Versions 1 and 2 12 0 Rate" in page
    assert "posttrain preferences versions 2 3" in page


def test_a_file_that_was_named_is_read_too(desk: Desk) -> None:
    own = desk.ballots(NAME).folder / "pairs" / "1-2.jsonl"
    named = own.rename(desk.state / "elsewhere.jsonl")
    site = browser_of(Desk(desk.access, desk.links, desk.state, (named,)))
    start(site)
    assert "Pair 1 of 12" in site.get(HERE).text
