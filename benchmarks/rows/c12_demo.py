"""C12: `make demo` once the environment is there, from an empty state to a promoted adapter.

The demo knows no smaller size: a quick turn reads what the last whole one left.
"""

import json

from benchmarks import demo
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch


def prepare(bench: Bench) -> Prepared:
    """Nothing: the demo brings its own data."""

    def run(watch: Watch) -> None:
        report = _last() if bench.quick else demo.run_anew(seed=0)
        watch.add(report["cpu_seconds"], report["wall_seconds"])
        watch.count(1)
        watch.note(minutes=report["wall_seconds"] / 60)

    return Prepared([Arm("ours", run)], {"seed": 0})


def _last() -> demo.Report:
    found: demo.Report = json.loads(demo.RESULTS.read_text(encoding="utf-8"))["runs"][0]
    return found


ROW = Row(
    name="C12",
    title="`make demo` after set-up",
    targets=(
        Target(
            what="the clock",
            ours="ours",
            figure="minutes",
            bound=6,
            aim=3,
            at_most=True,
            unit="min",
        ),
    ),
    prepare=prepare,
    num_turns=1,
    num_warm=0,
)
