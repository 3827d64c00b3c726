"""The table of faults counts what tests say, and what became of them."""

from typing import Any

import pytest

from tests import faults
from tests.faults import LEVEL, Injected, Lines, table, times


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
    assert lines.sorted == [{**LINE, "count": 6, "tests": 2, "failed": 0}]
    assert table(lines.sorted).splitlines()[-1] == "| State | a flipped byte | each file | 6 | 0 |"


def test_a_test_that_failed_is_seen_in_the_table() -> None:
    lines = Lines()
    lines.add(report("call", "failed"))
    lines.add(report("teardown", "passed", **LINE))
    assert table(lines.sorted).endswith("| 3 | 1 tests failed |")


def test_how_often_is_the_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert times(quick=1, few=2, full=3) == {"quick": 1, "few": 2, "full": 3}[LEVEL]
    monkeypatch.setattr(faults, "LEVEL", "full")
    assert times(quick=1, few=2, full=3) == 3


def test_what_is_injected_is_counted() -> None:
    seen = Injected()
    seen.add(2, lost=1)
    seen.add()
    assert (seen.count, seen.lost) == (3, 1)
