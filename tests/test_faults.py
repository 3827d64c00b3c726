"""The table of faults counts what tests say, and what became of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import faults
from tests.faults import LEVEL, Injected, Lines, commit, table, times


def report(when: str, outcome: str, **line: Any) -> pytest.TestReport:
    properties = [("fault", line)] if line else []
    return pytest.TestReport(
        "tests/x.py::one",
        ("tests/x.py", 1, "one"),
        {},
        outcome,  # type: ignore[arg-type]
        None,
        when,  # type: ignore[arg-type]
        user_properties=properties,
    )


LINE = {"part": "State", "fault": "a flipped byte", "how": "each file", "count": 3, "lost": 0}


def test_tests_of_one_fault_are_one_line() -> None:
    lines = Lines()
    for _ in range(2):
        lines.add(report("call", "passed"))
        lines.add(report("teardown", "passed", **LINE))
    assert lines.sorted == [{**LINE, "count": 6, "tests": 2, "failed": 0, "commit": commit()}]
    assert table(lines.sorted).splitlines()[-1] == "| State | a flipped byte | each file | 6 | 0 |"


def test_a_test_that_failed_is_seen_in_the_table() -> None:
    lines = Lines()
    lines.add(report("call", "failed"))
    lines.add(report("teardown", "passed", **LINE))
    assert table(lines.sorted).endswith("| 3 | 1 tests failed |")


def test_lines_of_faults_that_did_not_run_now_stay() -> None:
    other = {**LINE, "fault": "a cut file", "tests": 1, "failed": 0, "commit": "0a1b2c3"}
    stale = {**LINE, "count": 99, "tests": 1, "failed": 1}
    before = {"level": LEVEL, "failed": ["tests/x.py::one", "y"], "faults": [stale, other]}
    lines = Lines()
    lines.add(report("call", "passed"))
    lines.add(report("teardown", "passed", **LINE))
    kept = lines.joined(before)
    assert kept["faults"] == [other, {**LINE, "tests": 1, "failed": 0, "commit": commit()}]
    assert kept["failed"] == ["y"]
    assert lines.joined({**before, "level": "another"})["failed"] == []


def test_a_worker_that_died_is_a_failure_without_a_line() -> None:
    lines = Lines()
    lines.add(report("???", "failed"))
    assert lines.joined(None)["failed"] == ["tests/x.py::one"]


def test_the_page_shows_the_committed_table_and_nothing_was_lost() -> None:
    kept = json.loads(Path("benchmarks/results/faults.json").read_bytes())
    assert (kept["level"], kept["failed"]) == ("full", [])
    assert [one for one in kept["faults"] if one["lost"] or one["failed"]] == []
    assert table(kept["faults"]) in Path("docs/reliability.md").read_text(encoding="utf-8")


def test_how_often_is_the_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert times(quick=1, few=2, full=3) == {"quick": 1, "few": 2, "full": 3}[LEVEL]
    monkeypatch.setattr(faults, "LEVEL", "full")
    assert times(quick=1, few=2, full=3) == 3


def test_what_is_injected_is_counted() -> None:
    seen = Injected()
    seen.add(2, lost=1)
    seen.add()
    assert (seen.count, seen.lost) == (3, 1)
