import unicodedata

import pytest
from rouge_score.rouge_scorer import RougeScorer

from posttrain.evaluate.rouge import UnicodeTokenizer, f1

REFERENCE, RESPONSE = "나는 학교에 갔다", "나는 학교를 갔다"
"""Syllables 나 는 학 교 에 갔 다 and 나 는 학 교 를 갔 다."""


def test_korean_by_the_syllable_as_worked_by_hand() -> None:
    # of 7 syllables 6 are shared, in order; of 6 pairs 나는 는학 학교 갔다: both sides alike
    assert f1(REFERENCE, RESPONSE, "syllable") == pytest.approx(
        {"1": 6 / 7, "2": 4 / 6, "l": 6 / 7}
    )


def test_korean_by_the_word_as_worked_by_hand() -> None:
    # of 3 words 2 are shared; no pair is
    assert f1(REFERENCE, RESPONSE, "word") == pytest.approx({"1": 2 / 3, "2": 0.0, "l": 2 / 3})


def test_lengths_that_differ_as_worked_by_hand() -> None:
    # reference 배 는 여 덟 시 (5), response 배 는 시 (3): precision 3/3, recall 3/5, F1 3/4;
    # pairs: 배는 of 2 and of 4: precision 1/2, recall 1/4, F1 1/3
    found = f1("배는 여덟 시", "배는 시", "syllable")
    assert found == pytest.approx({"1": 3 / 4, "2": 1 / 3, "l": 3 / 4})


def test_the_longest_common_subsequence_follows_the_order() -> None:
    # all four units are shared; in order at most two: "c d" or "a b"
    assert f1("a b c d", "c d a b", "word") == pytest.approx({"1": 1.0, "2": 2 / 3, "l": 0.5})


def test_the_packages_own_tokenizer_scores_korean_zero() -> None:
    own = RougeScorer(["rouge1"]).score(REFERENCE, REFERENCE)
    assert own["rouge1"].fmeasure == 0.0
    assert f1(REFERENCE, REFERENCE, "syllable") == {"1": 1.0, "2": 1.0, "l": 1.0}


def test_english_scores_as_by_the_packages_own_tokenizer() -> None:
    pair = ("The quick brown fox_7 jumps, twice.", "A quick fox jumped over 7 dogs")
    own = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(*pair)
    assert list(f1(*pair, "syllable").values()) == [score.fmeasure for score in own.values()]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("GPT-4가 3.5%", ["gpt", "4", "가", "3", "5"]),
        ("東京タワーへ", ["東", "京", "タ", "ワ", "ー", "へ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("３㎞", ["3km"]),
        (unicodedata.normalize("NFD", "각"), ["각"]),
        ("...!?", []),
    ],
)
def test_units(text: str, units: list[str]) -> None:
    assert UnicodeTokenizer("syllable").tokenize(text) == units


def test_nothing_said_scores_zero() -> None:
    assert f1(REFERENCE, "", "syllable") == {"1": 0.0, "2": 0.0, "l": 0.0}
