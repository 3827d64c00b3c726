"""From verdicts to preferences that ingest and validate read."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from posttrain.align.human_preferences import (
    Decided,
    decide,
    in_lines,
    majority,
    read_key,
    write,
)
from posttrain.align.pairs import Drawn, KeyRow, Turn
from posttrain.align.pairs import write as write_pairs
from posttrain.align.verdicts import Choice, Place, Verdict, read_verdicts
from posttrain.data.ingest import ingest
from posttrain.data.validate import validate
from posttrain.recipe.human_preferences import VerdictsRecipe
from posttrain.recipe.ingest import IngestRecipe, Source
from posttrain.recipe.validation import ValidationRecipe

RECIPE = VerdictsRecipe(num_bootstrap=200)


def pair(index: int, prompt_set: str = "rollout") -> KeyRow:
    """PPO's answer stands first where the index is even."""
    first, second = ("ppo", "sft") if index % 2 == 0 else ("sft", "ppo")
    return KeyRow.model_validate(
        {
            "pair_id": f"pair{index}",
            "messages": (
                Turn(role="system", content="Be kind."),
                Turn(role="user", content=f"Where does ferry number {index} leave?"),
            ),
            "response_1": f"At pier {index}, by {first}'s word.",
            "response_2": f"From quay {index}, by {second}'s word.",
            "stage_1": first,
            "stage_2": second,
            "policy_1": first * 8,
            "policy_2": second * 8,
            "prompt_id": f"q{index}",
            "prompt_set": prompt_set,
            "held_out": prompt_set == "held_out",
            "group": f"g{index}",
            "run": "a-run",
            "temperature": 1.0,
            "seed": 0,
        }
    )


def verdict(index: int, choice: Choice, rater: str = "kim", line: int = 1, **more: Any) -> Verdict:
    values = {"when": "", "texts": (), **more}
    return Verdict(Place("answers", line, False), f"pair{index}", rater, choice, **values)


def decided(*verdicts: Verdict, num_pairs: int = 8, prompt_set: str = "rollout") -> Decided:
    key = {row.pair_id: row for row in (pair(i, prompt_set) for i in range(num_pairs))}
    return decide(key, verdicts, [], RECIPE)


def test_more_than_half_decide() -> None:
    assert majority(["response_1"]) == "response_1"
    assert majority(["response_1", "response_2", "response_1"]) == "response_1"
    assert majority(["response_1", "response_2"]) is None
    assert majority(["response_1", "response_2", "tie"]) is None
    assert majority(["tie", "tie", "response_2"]) == "tie"


def test_preferences_have_canonical_columns_and_name_nobody() -> None:
    found = decided(verdict(0, "response_2"))
    assert found.rows == (
        {
            "id": "human-pair0",
            "prompt": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Where does ferry number 0 leave?"},
            ],
            "chosen": "From quay 0, by sft's word.",
            "rejected": "At pier 0, by ppo's word.",
            "group": "g0",
            "kind": "human",
        },
    )


def test_prompts_that_are_held_out_stay_so() -> None:
    found = decided(verdict(0, "response_2"), prompt_set="held_out")
    assert found.rows[0]["split"] == "held_out"


def test_ties_and_pairs_without_a_majority_are_dropped_and_counted() -> None:
    found = decided(
        verdict(0, "response_1"),
        verdict(1, "tie"),
        verdict(2, "response_1"),
        verdict(2, "response_2", "lee"),
    ).figures
    assert (found.num_preferred, found.num_ties, found.num_undecided) == (1, 1, 1)
    assert (found.num_pairs, found.num_rated, found.num_verdicts, found.num_raters) == (8, 3, 4, 2)


def test_win_rate_follows_the_stage_and_not_the_place() -> None:
    # PPO's answer every time, but for a tie: (1 + 1 + 1 + 0.5) / 4
    found = decided(
        verdict(0, "response_1"),
        verdict(1, "response_2"),
        verdict(2, "response_1"),
        verdict(3, "tie"),
    ).figures
    assert found.stages == ("sft", "ppo")
    assert found.win_rate is not None
    assert found.win_rate.value == pytest.approx(0.875)
    assert found.win_rate.low < 0.875 <= found.win_rate.high
    assert found.first_share is not None
    assert found.first_share.value == pytest.approx(0.625)


def test_agreement_is_that_of_two_raters_of_a_pair() -> None:
    # pair 0: 1 of 3 duels agree; pair 1: 1 of 1; pair 2 has one rater
    found = decided(
        *(verdict(0, c, r) for c, r in (("tie", "a"), ("tie", "b"), ("response_1", "c"))),  # type: ignore[arg-type]
        *(verdict(1, "response_2", rater) for rater in ("a", "b")),
        verdict(2, "response_1", "a"),
    ).figures
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(0.5)
    assert decided(verdict(2, "response_1")).figures.agreement is None


def test_unknown_pairs_and_other_texts_do_not_count() -> None:
    found = decided(
        verdict(0, "response_1", line=1, texts=(("response_1", "At pier 0, by ppo's word. "),)),
        verdict(99, "response_1", line=2),
        verdict(1, "response_1", line=3, texts=(("response_1", "Edited."),)),
    )
    assert found.figures.num_rated == 1
    assert in_lines(found.problems) == [
        "answers: line 2: unknown pair: pair99",
        "answers: line 3: other texts: pair1",
    ]


def test_a_raters_last_word_counts() -> None:
    found = decided(verdict(0, "response_1", line=1), verdict(0, "response_2", line=2))
    assert found.rows[0]["chosen"].startswith("From quay")
    assert in_lines(found.problems) == ["answers: line 1: replaced: pair0"]
    newest_first = decided(
        verdict(0, "response_1", line=1, when="2026-01-06"),
        verdict(0, "response_2", line=2, when="2026-01-05"),
    )
    assert newest_first.rows[0]["chosen"].startswith("At pier")
    assert in_lines(newest_first.problems) == ["answers: line 2: replaced: pair0"]


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such key"):
        read_key(tmp_path / "absent.jsonl")
    (tmp_path / "key.jsonl").write_text(pair(0).model_dump_json() + '\n{"pair_id": "x"}\n')
    with pytest.raises(ValueError, match="line 2 is no row of a key"):
        read_key(tmp_path / "key.jsonl")


def test_keys_of_several_exports_are_refused() -> None:
    other = pair(1).model_copy(update={"stage_1": "self_critique"})
    with pytest.raises(ValueError, match="2 kinds of pairs"):
        decide({"a": pair(0), "b": other}, [], [], RECIPE)


def test_two_samples_of_one_policy_have_no_win_rate() -> None:
    row = pair(0).model_copy(update={"stage_2": "ppo"})
    found = decide({row.pair_id: row}, [verdict(0, "response_1")], [], RECIPE)
    assert found.figures.win_rate is None
    assert len(found.rows) == 1


def test_what_is_exported_rated_and_imported_passes_ingest_and_validate(tmp_path: Path) -> None:
    drawn = Drawn(tuple(pair(i) for i in range(6)), ("sft", "ppo"), "rollout", {})
    key = write_pairs(drawn, tmp_path / "pairs.jsonl", "jsonl")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["choice"] = "response_1" if number < 5 else "tie"
    rated = tmp_path / "rated.jsonl"
    rated.write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = decide(read_key(key), *read_verdicts([rated]), RECIPE)
    write(found, tmp_path / "human.jsonl")
    own = {"prompt": "Which ferry is red?", "chosen": "The third.", "rejected": "No idea at all."}
    more = {"split": "held_out", "kind": "own"}
    own_rows = [{**own, **more, "prompt": f"Which ferry is red on day {i}?"} for i in range(30)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own_rows))
    names = (str(tmp_path / "own.jsonl"), str(tmp_path / "human.jsonl"))
    records = ingest(IngestRecipe(preferences=Source(source=names)))
    validated = validate(records, ValidationRecipe())

    assert validated.failures == ()
    assert validated.quarantine.facts.num_rows == {"preferences": {}}
    kept = pq.read_table(validated.records.file("preferences")).to_pylist()
    assert len(kept) == 35
    human = [row for row in kept if row["kind"] == "human"]
    assert [row["chosen"] for row in human] == [row.response_1 for row in drawn.rows[:5]]
    assert [row["group"] for row in human] == [f"g{i}" for i in range(5)]
    assert {row["extra"] for row in human} == {None}
