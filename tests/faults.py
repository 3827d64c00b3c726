"""How often a fault is injected, and what was lost by it.

A test marked `fault` injects one and counts through the fixture `injected`. The environment's
`POSTTRAIN_TEST_FAULTS` says how often: `quick` in `make test`, `few` in `make test-all`, `full` in
`make test-faults`, which prints what every fault cost and keeps it in a file. Where only some tests
ran (`make test-faults FAULTS=tests/cli`), the other lines of the file stay, each with its commit.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

LEVELS = ("quick", "few", "full")
LEVEL = os.environ.get("POSTTRAIN_TEST_FAULTS", "quick")
if LEVEL not in LEVELS:
    raise ValueError(f"POSTTRAIN_TEST_FAULTS is {LEVEL!r}: choose one of {', '.join(LEVELS)}")

RESULTS = os.environ.get("POSTTRAIN_TEST_FAULTS_RESULTS")
"""The file that the table is written to; nothing is printed or written without it."""


def times(*, quick: int, few: int, full: int) -> int:
    """How often a fault is injected in this run."""
    return {"quick": quick, "few": few, "full": full}[LEVEL]


@dataclass
class Injected:
    """What a test did, and what was gone after it."""

    count: int = 0
    lost: int = 0

    def add(self, count: int = 1, *, lost: int = 0) -> None:
        """Some more injections; `lost` of them cost something. The test fails on those itself."""
        self.count += count
        self.lost += lost


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Iterator[Injected]:
    """Counts the injections of a test that is marked with its part, fault and way."""
    marker = request.node.get_closest_marker("fault")
    assert marker, f"{request.node.nodeid} has no mark: @pytest.mark.fault(part, fault, how)"
    part, fault, how = marker.args
    seen = Injected()
    yield seen
    line = {"part": part, "fault": fault, "how": how, "count": seen.count, "lost": seen.lost}
    request.node.user_properties.append(("fault", line))


@cache
def commit() -> str:
    """Of the tree that is tested."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


class Lines:
    """The lines of the table, as the tests' reports bring them."""

    def __init__(self) -> None:
        self.by_fault: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.ran: set[str] = set()
        self.failed: set[str] = set()

    def add(self, report: pytest.TestReport) -> None:
        """Reports of a test's three phases; the last one bears what was counted."""
        self.ran.add(report.nodeid)
        if report.failed:  # a worker that dies, too
            self.failed.add(report.nodeid)
        if report.when != "teardown":
            return
        for name, found in report.user_properties:
            if name == "fault":
                assert isinstance(found, dict)
                key = (found["part"], found["fault"], found["how"])
                line = self.by_fault.setdefault(
                    key,
                    {**found, "count": 0, "lost": 0, "tests": 0, "failed": 0, "commit": commit()},
                )
                line["count"] += found["count"]
                line["lost"] += found["lost"]
                line["tests"] += 1
                line["failed"] += report.nodeid in self.failed

    def joined(self, before: dict[str, Any] | None) -> dict[str, Any]:
        """What the file holds: these lines, and those of faults that were not injected now."""
        failed = set(self.failed)
        if before is not None and before["level"] == LEVEL:
            for line in before["faults"]:
                self.by_fault.setdefault((line["part"], line["fault"], line["how"]), line)
            failed |= set(before["failed"]) - self.ran
        return {
            "level": LEVEL,
            "when": datetime.now(UTC).strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "failed": sorted(failed),
            "faults": self.sorted,
        }

    @property
    def sorted(self) -> list[dict[str, Any]]:
        """Parts in the order of their names, faults within them likewise."""
        return [self.by_fault[key] for key in sorted(self.by_fault)]


LINES = Lines()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    LINES.add(report)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if RESULTS is None:
        return
    file = Path(RESULTS)
    kept = LINES.joined(json.loads(file.read_bytes()) if file.exists() else None)
    terminalreporter.section("faults")
    terminalreporter.write_line(table(kept["faults"]))
    for name in kept["failed"]:
        terminalreporter.write_line(f"FAILED {name}")
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: what was injected, how, how often, and what was lost."""
    rows = ["| | Fault | Injected by | Times | Lost |", "|---|---|---|---:|---:|"]
    for line in lines:
        lost = f"{line['failed']} tests failed" if line["failed"] else line["lost"]
        rows.append(
            f"| {line['part']} | {line['fault']} | {line['how']} | {line['count']:,} | {lost} |"
        )
    return "\n".join(rows)
