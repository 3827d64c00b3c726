import pytest

from posttrain.data import profile
from posttrain.data.profile import NUM_PARTS, NUM_WORDS, Tally, length_bin
from posttrain.data.rows import Row
from posttrain.facts import SourceFacts


def document(text: str) -> Row:
    return {"id": "c", "text": text, "split": "train", "extra": None}


def pair(chosen: str, rejected: str, kind: str = "value") -> Row:
    prompt = [{"role": "user", "content": "what ?"}]
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "kind": kind}


def test_bins_are_two_a_doubling() -> None:
    assert [length_bin(n) for n in (0, 1, 2, 4, 6, 8)] == [0, 0, 2, 4, 5, 6]


def test_pairs_are_counted_by_kind_and_by_which_answer_is_longer() -> None:
    tally = Tally("preferences")
    tally.add([pair("long one", "short"), pair("a", "bc", "tone"), pair("ab", "cd")])
    found = tally.profile(None).dimensions
    assert found["kind"].counts == {"value": 2, "tone": 1}
    assert found["preferred"].counts == {"longer": 1, "shorter": 1, "equal": 1}


def test_a_profile_keeps_the_frequent_words_and_counts_the_rest() -> None:
    tally = Tally("corpus")
    tally.add([document(f"the word{number} , The") for number in range(3 * NUM_WORDS)])
    words = tally.profile(None).dimensions["vocabulary"]
    assert len(words.counts) == NUM_WORDS
    assert words.counts["the"] == 6 * NUM_WORDS
    assert words.total == 9 * NUM_WORDS


def test_of_many_different_words_the_frequent_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "MAX_WORDS", 100)
    tally = Tally("corpus")
    tally.add([document(f"the word{number}") for number in range(1_000)])
    assert len(tally.words.places) <= 100
    words = tally.profile(None).dimensions["vocabulary"]
    assert (words.counts["the"], words.total) == (1_000, 2_000)
    assert sum(tally.words.count("the", part) for part in range(NUM_PARTS)) == 1_000


def test_equal_rows_give_an_equal_profile_in_any_order_and_batch() -> None:
    rows = [document(f"text {number} of {number % 7}") for number in range(100)]
    one, other = Tally("corpus"), Tally("corpus")
    one.add(rows)
    for row in reversed(rows):
        other.add([row])
    assert one.profile(None) == other.profile(None)


def test_sources_are_counted_as_they_were_read() -> None:
    facts = SourceFacts(
        source="a, b", revision=None, files={}, num_rows={"a.jsonl": 30, "b/*.jsonl": 10}
    )
    tally = Tally("corpus")
    tally.add([document("text")])
    source = tally.profile(facts).dimensions["source"]
    assert (source.counts, source.total) == ({"a.jsonl": 30, "b/*.jsonl": 10}, 40)
