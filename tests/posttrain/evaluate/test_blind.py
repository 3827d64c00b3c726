"""Pairs that do not tell who wrote them, and what verdicts on them amount to, by hand."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from posttrain.align.pairs import Turn
from posttrain.align.revise import Utterance
from posttrain.align.verdicts import Choice
from posttrain.evaluate.blind import (
    Asked,
    Ballot,
    VersionPair,
    from_samples,
    pair_up,
    tally,
    to_rate,
    wilson,
)
from posttrain.evaluate.bootstrap import wilson_interval
from tests import samples


def said(*texts: str, ended: bool = True) -> list[Utterance]:
    return [Utterance([], text, ended) for text in texts]


def asked(number: int, held_out: bool = True, what: str = "pier") -> list[Asked]:
    return [
        Asked((Turn(role="user", content=f"Where is {what} {i}?"),), held_out)
        for i in range(number)
    ]


def pairs(number: int, seed: int = 0) -> list[VersionPair]:
    answers = (
        said(*(f"old {i}" for i in range(number))),
        said(*(f"new {i}" for i in range(number))),
    )
    return pair_up("museum", (1, 2), asked(number), answers, seed)[0]


def ballot(pair: VersionPair, choice: Choice | None, rater: str = "kim") -> Ballot:
    return Ballot(pair=pair, choice=choice, rater=rater, updated_at="2026-11-21T00:00:00+00:00")


def for_version(pair: VersionPair, version: int) -> Choice:
    return "response_1" if pair.version_1 == version else "response_2"


def swapped(pair: VersionPair) -> VersionPair:
    return pair.model_copy(
        update={
            "response_1": pair.response_2,
            "response_2": pair.response_1,
            "version_1": pair.version_2,
            "version_2": pair.version_1,
        }
    )


def test_sides_are_drawn_by_the_seed_and_each_text_keeps_its_version() -> None:
    drawn = pairs(40)
    firsts = [pair.version_1 for pair in drawn]
    assert 10 < firsts.count(1) < 30
    for pair in drawn:
        writers = {1: "old", 2: "new"}
        assert pair.response_1.startswith(writers[pair.version_1])
        assert pair.response_2.startswith(writers[pair.version_2])
    assert pairs(40) == drawn
    assert [pair.version_1 for pair in pairs(40, seed=1)] != firsts


def test_what_can_not_be_compared_is_dropped_and_counted() -> None:
    answers = (
        [*said("same", "", "a"), *said("cut", ended=False)],
        said("same", "b", "b", "c"),
    )
    drawn, dropped = pair_up("museum", (1, 2), asked(4), answers, seed=0)
    assert len(drawn) == 1
    assert dropped == {"identical": 1, "empty": 1, "unfinished": 1}


def test_stored_samples_are_paired_by_prompt_and_held_out() -> None:
    first, second = samples.evaluation(), samples.evaluation()
    last = second.stages[-1]
    other = tuple(
        one.model_copy(update={"response": f"{one.response} 정말입니다."})
        for one in last.samples[:2]
    )
    second = second.model_copy(
        update={"stages": (*second.stages[:-1], last.model_copy(update={"samples": other}))}
    )
    found = from_samples("museum", (1, 2), (first, second), seed=0)
    assert {pair.messages[0].content for pair in found} == {one.prompt for one in other}
    assert all(pair.held_out for pair in found)


def test_the_win_rate_counts_ties_half() -> None:
    drawn = pairs(4)
    choices: Sequence[Choice] = (
        for_version(drawn[0], 2),
        for_version(drawn[1], 2),
        for_version(drawn[2], 1),
        "tie",
    )
    told = tally((1, 2), [ballot(p, c) for p, c in zip(drawn, choices, strict=True)])
    assert told.win_rate is not None
    assert told.win_rate.value == pytest.approx(2.5 / 4)
    assert (told.wins, told.num_ties, told.num_rated, told.num_verdicts) == ((1, 2), 1, 4, 4)


def test_the_last_word_counts_and_a_pass_is_no_verdict() -> None:
    first, second = pairs(2)
    told = tally(
        (1, 2),
        [
            ballot(first, for_version(first, 1)),
            ballot(first, for_version(first, 2)),
            ballot(second, None),
        ],
    )
    assert told.wins == (0, 1)
    assert (told.num_rated, told.num_skipped, told.num_raters) == (1, 1, 1)


def test_raters_agree_though_they_saw_the_sides_the_other_way_round() -> None:
    (pair,) = pairs(1)
    other = swapped(pair)
    told = tally(
        (1, 2),
        [
            ballot(pair, for_version(pair, 2), "kim"),
            ballot(other, for_version(other, 2), "lee"),
        ],
    )
    assert told.wins == (0, 1)
    assert told.agreement == 1.0
    assert told.first_share == 0.5


def test_two_raters_who_differ_decide_nothing() -> None:
    (pair,) = pairs(1)
    told = tally((1, 2), [ballot(pair, "response_1", "kim"), ballot(pair, "response_2", "lee")])
    assert (told.num_undecided, told.wins, told.agreement) == (1, (0, 0), 0.0)
    assert told.win_rate is not None and told.win_rate.value == 0.5


def test_verdicts_on_other_versions_do_not_count() -> None:
    (pair,) = pairs(1)
    told = tally((1, 3), [ballot(pair, "response_1")])
    assert (told.num_rated, told.win_rate) == (0, None)


def test_wilson_by_hand() -> None:
    figure = wilson([1.0] * 8 + [0.0] * 2)
    assert figure.value == 0.8
    assert figure.low == pytest.approx(0.4902, abs=5e-5)
    assert figure.high == pytest.approx(0.9433, abs=5e-5)
    assert (figure.low, figure.high) == wilson_interval(0.8, 10)  # as figures of probes have it
    certain = wilson([1.0] * 10)
    assert certain.low == pytest.approx(0.7225, abs=5e-5) and certain.high == pytest.approx(1.0)


def test_a_rater_is_shown_what_he_has_not_judged() -> None:
    drawn = pairs(3)
    by_id = {pair.pair_id: pair for pair in drawn}
    done = [
        ballot(drawn[0], "tie", "kim"),
        ballot(drawn[1], None, "kim"),
        ballot(drawn[2], "tie", "lee"),
    ]
    assert to_rate(by_id, done, "kim") == [drawn[2]]
    assert to_rate(by_id, done, "lee") == drawn[:2]


def test_the_id_tells_neither_side_nor_version(tmp_path: Path) -> None:
    (pair,) = pairs(1)
    (again,) = pair_up("museum", (2, 1), asked(1), (said("new 0"), said("old 0")), seed=5)[0]
    assert pair.pair_id == again.pair_id
