import json
from typing import Any

import pytest

from posttrain.data.rows import Row
from posttrain.data.rules import DERIVED, Examiner, count_columns, role_order, schema_finding
from posttrain.data.text import fingerprint
from posttrain.facts import Role
from posttrain.recipe.validation import RoleRules, ValidationRecipe


def corpus(text: str | None, split: str = "train", extra: str | None = None) -> Row:
    return {"id": "x", "text": text, "split": split, "extra": extra}


def instructions(*roles: str) -> Row:
    return {"messages": [{"role": role, "content": "c"} for role in roles]}


def derived(row: Row, role: Role = "corpus", **options: Any) -> Row:
    rules, recipe = RoleRules(**options), ValidationRecipe()
    examiner = Examiner(role, rules, recipe, frozenset({"odd"}), {fingerprint("held")})
    return examiner.derive(row)


def test_every_derived_column_is_known_to_the_suites() -> None:
    assert set(derived(corpus("a 1"))) == set(DERIVED)


def test_a_broken_schema_ends_the_examination() -> None:
    assert derived(corpus(None)) == {
        "id": "x",
        "split": "train",
        "schema": "text is missing or has the wrong type",
    }


def test_lengths_are_those_of_stripped_texts() -> None:
    found = derived({"id": "x", "prompt": " ab ", "answer": "c", "extra": None}, "probes")
    assert (found["shortest_chars"], found["longest_chars"]) == (1, 2)


def test_findings_hold_no_personal_data() -> None:
    found = derived(corpus("<|010-1234-5678|> a@b.kr 900101-1234568"))
    assert found["control_token"] == "<|[phone]|>"
    assert found["email"] == "at characters 18 to 24"
    assert not any("1234568" in str(value) or "b.kr" in str(value) for value in found.values())


def test_rare_columns_are_named() -> None:
    extra = json.dumps({"odd": 1, "topic": 2})
    assert derived(corpus("a", extra=extra))["unknown_column"] == "hardly any other row has odd"
    assert count_columns([extra, None, '{"topic": 0}']) == {"odd": 1, "topic": 2}


def test_overlap_concerns_training_rows_alone() -> None:
    assert derived(corpus(" held\n"))["held_out_overlap"] is not None
    assert derived(corpus("held", split="held_out"))["held_out_overlap"] is None


def test_language_is_measured_where_the_rule_is_on() -> None:
    assert derived(corpus("가яя"))["language_share"] is None
    share = derived(corpus("가яя"), min_language_share=0.5)["language_share"]
    assert share == pytest.approx(1 / 3)


def test_an_unknown_role_cannot_pose_as_two() -> None:
    assert role_order("instructions", instructions("user", "assistant")) == "user assistant"
    assert role_order("instructions", instructions("user assistant")) == "'user assistant'"


def test_schema_names_the_message() -> None:
    row = instructions("user", "assistant")
    row["messages"][1]["content"] = None
    finding = schema_finding("instructions", row)
    assert finding == "message 1: content is missing or has the wrong type"


def test_a_pair_of_equal_answers_teaches_nothing() -> None:
    row = {"prompt": [{"role": "user", "content": "q"}], "chosen": "a b", "rejected": "a  b"}
    assert schema_finding("preferences", row) == "chosen and rejected are the same text"
