"""The demonstrations of `recipes/tiny_rlaif.yaml`'s judge."""

import json
from collections import Counter
from typing import Any

import judgements
import pytest
import yaml

from tests.data_sample.conftest import DATA

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [json.loads(line) for line in (DATA / "judgements.jsonl").open(encoding="utf-8")]


def test_the_committed_file_is_what_the_script_writes(rows: list[Row]) -> None:
    assert judgements.rows(str(judgements.SEED)) == rows


def test_every_pair_stands_in_both_orders(rows: list[Row]) -> None:
    letters = Counter(row["messages"][1]["content"] for row in rows)
    assert letters == dict.fromkeys(judgements.OPTIONS, judgements.NUM_PAIRS)


def test_the_recipe_words_the_question_as_the_demonstrations_do() -> None:
    text = (DATA.parent / "recipes" / "tiny_rlaif.yaml").read_text(encoding="utf-8")
    rlaif = yaml.safe_load(text)["parameters"]["recipe"]["rlaif"]
    assert rlaif["question"] == judgements.QUESTION
    assert tuple(rlaif["options"]) == judgements.OPTIONS


def test_the_demo_does_not_read_them() -> None:
    text = (DATA.parent / "zenml_config.yaml").read_text(encoding="utf-8")
    ingest = yaml.safe_load(text)["parameters"]["recipe"]["ingest"]
    assert ingest["instructions"]["source"] == "data/instructions.jsonl"


def test_no_group_of_theirs_is_held_out(rows: list[Row]) -> None:
    groups = {row["group"] for row in rows}
    for role in ("preferences", "instructions"):
        for line in (DATA / f"{role}.jsonl").open(encoding="utf-8"):
            row = json.loads(line)
            assert row["split"] == "train" or row["group"] not in groups
