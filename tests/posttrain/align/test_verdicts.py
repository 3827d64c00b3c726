"""Raters' files, in the shapes that Label Studio 1.23 and Argilla 2.8 write."""

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.align.verdicts import Problem, Verdict, read_verdicts

SHOWN = {"prompt": "Hi", "response_1": "Hello", "response_2": "Go away", "messages": []}


def read(
    tmp_path: Path, content: str, name: str = "answers"
) -> tuple[list[Verdict], list[Problem]]:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    return read_verdicts([file])


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def task(pair_id: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    """Label Studio's JSON: a task with all its annotations."""
    return {
        "id": 7,
        "annotations": list(annotations),
        "file_upload": "3a1b-pairs.json",
        "drafts": [],
        "predictions": [],
        "data": {"pair_id": pair_id, **SHOWN},
        "meta": {},
        "created_at": "2026-01-05T10:00:00.000000Z",
        "updated_at": "2026-01-05T10:03:00.000000Z",
        "project": 1,
    }


def annotation(by: Any, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": 31,
        "completed_by": by,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-05T10:01:00.000000Z",
        "updated_at": "2026-01-05T10:01:00.000000Z",
        "lead_time": 4.2,
        **more,
    }


def chosen(value: str, name: str = "choice") -> dict[str, Any]:
    return {
        "id": "Dx_aB91ISN",
        "from_name": name,
        "to_name": "prompt",
        "type": "choices",
        "origin": "manual",
        "value": {"choices": [value]},
    }


def pairwise(side: str) -> dict[str, Any]:
    return {
        "from_name": "choice",
        "to_name": "response_1,response_2",
        "type": "pairwise",
        "value": {"selected": side},
    }


def short(verdicts: list[Verdict]) -> list[tuple[str, str, str]]:
    return [(one.pair_id, one.rater, one.choice) for one in verdicts]


def why(problems: list[Problem]) -> list[tuple[int, str]]:
    return [(one.place.number, one.reason) for one in problems]


def test_our_own_jsonl_with_the_column_filled(tmp_path: Path) -> None:
    rows = [
        {"pair_id": "a", **SHOWN, "choice": "response_1", "rater": "kim"},
        {"pair_id": "b", **SHOWN, "choice": 2, "rater": "kim"},
        {"pair_id": "c", **SHOWN, "choice": "tie", "rater": "lee"},
        {"pair_id": "d", **SHOWN, "choice": None},
    ]
    verdicts, problems = read(tmp_path, lines(*rows))
    assert short(verdicts) == [
        ("a", "kim", "response_1"),
        ("b", "kim", "response_2"),
        ("c", "lee", "tie"),
    ]
    assert why(problems) == [(4, "unanswered")]
    assert dict(verdicts[0].texts) == {"response_1": "Hello", "response_2": "Go away"}


def test_a_file_without_raters_is_one_rater(tmp_path: Path) -> None:
    row = {"pair_id": "a", "choice": "1"}
    files = [tmp_path / "kim.jsonl", tmp_path / "lee.jsonl"]
    for file in files:
        file.write_text(lines(row), encoding="utf-8")
    verdicts, _ = read_verdicts(files)
    assert len({one.rater for one in verdicts}) == 2


def test_label_studios_json(tmp_path: Path) -> None:
    tasks = [
        task("a", annotation(1, chosen("response_2")), annotation({"id": 2}, chosen("tie"))),
        task("b", annotation(1, pairwise("left"))),
        task("c", annotation(1, was_cancelled=True)),
        task("d"),
        task("e", annotation(1)),
        task("f", annotation(1, chosen("response_1", name="other"))),
    ]
    verdicts, problems = read(tmp_path, json.dumps(tasks))
    assert short(verdicts) == [
        ("a", "1", "response_2"),
        ("a", "2", "tie"),
        ("b", "1", "response_1"),
    ]
    assert why(problems) == [
        (3, "skipped"),
        (4, "unanswered"),
        (5, "unanswered"),
        (6, "malformed"),
    ]
    assert problems[-1].detail == "no control is called 'choice' (found: ['other'])"


def test_label_studios_json_min(tmp_path: Path) -> None:
    more = {"annotator": 1, "annotation_id": 31, "lead_time": 4.2, "created_at": "2026-01-05"}
    rows = [
        {"pair_id": "a", **SHOWN, "id": 7, "choice": "response_2", **more},
        {"pair_id": "a", **SHOWN, "id": 7, "choice": "response_1", **more, "annotator": 2},
        {"pair_id": "b", **SHOWN, "id": 8, "choice": [{"selected": "right"}], **more},
        {"pair_id": "c", **SHOWN, "id": 9, **more},
    ]
    verdicts, problems = read(tmp_path, json.dumps(rows))
    assert short(verdicts) == [
        ("a", "1", "response_2"),
        ("a", "2", "response_1"),
        ("b", "1", "response_2"),
    ]
    assert why(problems) == [(4, "unanswered")]


def test_argillas_nested_records(tmp_path: Path) -> None:
    def record(name: str, **responses: Any) -> dict[str, Any]:
        return {
            "id": name,
            "fields": SHOWN,
            "metadata": {},
            "suggestions": {},
            "responses": responses,
            "vectors": {},
            "status": "completed",
            "_server_id": "6b1c",
        }

    said = [{"value": "response_1", "user_id": "u-1"}, {"value": "tie", "user_id": "u-2"}]
    verdicts, problems = read(tmp_path, json.dumps([record("a", choice=said), record("b")]))
    assert short(verdicts) == [("a", "u-1", "response_1"), ("a", "u-2", "tie")]
    assert why(problems) == [(2, "unanswered")]


def test_argillas_flat_records_know_what_was_submitted(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "status": "completed",
        "_server_id": "6b1c",
        **SHOWN,
        "choice.responses": ["response_1", "response_2", None],
        "choice.responses.users": ["u-1", "u-2", "u-3"],
        "choice.responses.status": ["submitted", "draft", "discarded"],
    }
    none = {**row, "id": "b"} | dict.fromkeys((k for k in row if k.startswith("choice")), None)
    verdicts, problems = read(tmp_path, lines(row, none))
    assert short(verdicts) == [("a", "u-1", "response_1")]
    assert why(problems) == [(1, "skipped"), (1, "skipped"), (2, "unanswered")]
    assert [one.detail for one in problems] == ["draft", "discarded", ""]


def test_what_is_malformed_is_named_by_its_line(tmp_path: Path) -> None:
    good = lines({"pair_id": "a", "choice": "1"})
    bad = '{"pair_id": "b", "cho\n\n7\n' + lines(
        {"choice": "1"}, {"pair_id": "c", "choice": "both"}, {"pair_id": "d", "choice": True}
    )
    verdicts, problems = read(tmp_path, good + bad)
    assert short(verdicts)[0][0] == "a"
    assert len(verdicts) == 1
    assert why(problems) == [(number, "malformed") for number in (2, 4, 5, 6, 7)]
    assert problems[3].detail.startswith("choice is 'both'")


def test_a_torn_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no whole JSON list"):
        read(tmp_path, '[{"pair_id": "a"}')
    with pytest.raises(ValueError, match="cannot be read"):
        read_verdicts([tmp_path / "absent.jsonl"])
