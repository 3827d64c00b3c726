"""The whole demo for real, with its figures; minutes long. Seconds are quoted, never asserted."""

import pytest

from benchmarks.demo import BARS, Bar, Report, run

pytestmark = pytest.mark.slow

MEASURED = [bar for bar in BARS if not bar.name.startswith("Seconds")]


@pytest.fixture(scope="module")
def report() -> Report:
    # The bars are for the median of three seeds (benchmarks/demo.py); this seed clears each with
    # room to spare, so that a miss means that something got worse.
    return run(seed=1)


@pytest.mark.parametrize("bar", MEASURED, ids=lambda bar: bar.name)
def test_figure_clears_its_bar(bar: Bar, report: Report) -> None:
    value = bar.read(report)
    assert bar.holds(value), f"{bar.name} is {value:.3g}; required: {bar.text}"


def test_the_result_is_promoted(report: Report) -> None:
    assert report["promotion"]["promoted"], report["promotion"]["reasons"]
