"""Every stage against what people use today, in one run on one machine.

    . .posttrain/env && python -m benchmarks.bench              # all rows
    . .posttrain/env && python -m benchmarks.bench C1 C3        # some
    . .posttrain/env && python -m benchmarks.bench --check      # against the committed results

Prints a table and writes `benchmarks/results/bench.json`; rows that were not asked for stay as they
are there. `--check` writes nothing and fails where a ratio has lost more than a fifth.
`harness.py` says what a row is.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench_table import Results, RowFound, decayed, gpu_table, summary, table
from benchmarks.harness import Bench, Row, all_rows, measure
from benchmarks.machine import Machine, machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "bench.json"
CACHE = ROOT / ".posttrain" / "bench"
THREADS = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the rows that are asked for, print the table, write or compare the results."""
    known = all_rows()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(known)}")
    parser.add_argument("--check", action="store_true", help="compare with the committed results")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one turn; writes nothing")
    parser.add_argument("--turns", type=int, help="of each arm; by default as the row says")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    if unknown := set(asked.rows) - set(known):
        parser.error(f"no rows {sorted(unknown)}; there are {list(known)}")
    before = read(asked.out)
    if asked.check and before is None:
        parser.error(f"{asked.out} is not there to be compared with; `make bench` writes it")
    here = machine()
    joins = bool(asked.rows) and not (asked.check or asked.quick)
    if joins and before is not None and before.machine != here:
        parser.error(
            f"{asked.out}: measured on another machine, or with other versions; run all rows, or "
            "name another file by --out"
        )
    rows: dict[str, RowFound] = {}
    kept = before if joins else None
    with tempfile.TemporaryDirectory(prefix="posttrain-bench-") as folder:
        for name in asked.rows or known:
            rows[name] = run(known[name], Path(folder), asked.quick, asked.turns)
            print(table({name: rows[name]}), flush=True)
            if not (asked.check or asked.quick):  # a row that fails costs none of those before
                kept = write(kept, here, {name: rows[name]}, asked.out)
    print(table(rows), summary(rows), gpu_table(), sep="\n\n")
    if asked.check and before is not None and (worse := decayed(before.rows, rows)):
        sys.exit("decayed: " + "; ".join(worse))


def run(row: Row, folder: Path, quick: bool, num_turns: int | None = None) -> RowFound:
    """Prepare and measure a row, its artifacts in a folder of its own."""
    own = folder / row.name
    own.mkdir(parents=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("work", "checkpoints", "cache"):
        os.environ[f"POSTTRAIN_{name.upper()}"] = str(own / name)
    os.environ["POSTTRAIN_ROOTS"] = str(folder)  # a row's data lie there
    os.environ |= {"POSTTRAIN_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    prepared = row.prepare(Bench(own, CACHE, quick))
    return RowFound.of(row, prepared, measure(row, prepared, quick, num_turns))


def read(file: Path) -> Results | None:
    """Results of an earlier run."""
    return Results.model_validate_json(file.read_bytes()) if file.exists() else None


def write(before: Results | None, here: Machine, rows: dict[str, RowFound], file: Path) -> Results:
    """Write the results; the rows join those of before, if there are any."""
    ours = (before or Results(machine=here, threads=THREADS, rows={})).with_rows(rows)
    file.write_text(ours.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return ours


if __name__ == "__main__":
    main()
