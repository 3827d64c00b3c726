"""C11: ingest and validate of ten thousand rows, a hundred thousand and a million.

Half are documents, with near-duplicates looked for, half conversations. Each turn is a process of
its own: its memory is the most that it ever held, libraries and all.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.many_rows import write
from benchmarks.material import SEED

ROOT = Path(__file__).parent.parent.parent
SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000}
QUICK = {"10k": 200, "100k": 300, "1M": 400}


def prepare(bench: Bench) -> Prepared:
    """Files of each size."""
    sizes = QUICK if bench.quick else SIZES
    files = {name: write(bench.folder / name, number, SEED) for name, number in sizes.items()}
    arms = [Arm(name, partial(_turn, files[name], number)) for name, number in sizes.items()]
    return Prepared(arms, {"seed": SEED, **{f"rows_{name}": n for name, n in sizes.items()}})


def _turn(files: dict[str, Path], num_rows: int, watch: Watch) -> None:
    with tempfile.TemporaryDirectory(dir=files["corpus"].parent) as work:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rows_arm", files["corpus"], files["instructions"]],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "POSTTRAIN_WORK": work},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{num_rows} rows failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    watch.add(found["cpu_seconds"], found["ingest_seconds"] + found["validate_seconds"])
    watch.count(num_rows)
    watch.note(
        peak_mb=found["peak_bytes"] / 1e6,
        us_per_row=found["cpu_seconds"] / num_rows * 1e6,
        kept=sum(found["kept"].values()),
    )


ROW = Row(
    name="C11",
    title="Ingest and validate, 1,000,000 rows",
    targets=(
        Target(
            what="peak memory of 10,000",
            ours="1M",
            theirs="10k",
            figure="peak_mb",
            bound=1.5,
            aim=1.2,
            at_most=True,
        ),
        Target(
            what="CPU time a row of 100,000",
            ours="1M",
            theirs="100k",
            figure="us_per_row",
            bound=1.25,
            aim=1.1,
            at_most=True,
        ),
    ),
    prepare=prepare,
    num_turns=1,
    num_warm=0,
)
