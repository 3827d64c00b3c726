"""The frame of `make bench`: how turns are taken, what is read from them, what counts as decay."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.bench import RESULTS, main, read, run, write
from benchmarks.bench_table import Found, RowFound, decayed, gpu_table, summary, table
from benchmarks.harness import Arm, Prepared, Row, Target, Turn, Watch, all_rows, measure
from benchmarks.machine import machine

SPEED = Target(what="theirs", ours="a", theirs="b", bound=2, aim=4)
PEAK = Target(what="memory", ours="a", figure="peak", bound=1.5, aim=1.2, at_most=True, unit="MB")


def turn(cpu: float, wall: float = 1.0, work: float = 10.0, **figures: float) -> Turn:
    return Turn(cpu_seconds=cpu, wall_seconds=wall, work=work, figures=figures)


def row(*targets: Target, equal: dict[str, float] | None = None, num_warm: int = 1) -> Row:
    return Row("C1", "title", targets, lambda _: Prepared([]), equal or {}, 3, num_warm)


def found(target: Target, value: float) -> dict[str, RowFound]:
    one = Found(target=target, value=value, wall=None)
    return {"C1": RowFound(title="title", found=(one,), facts={}, dtypes={}, turns={})}


def test_arms_take_turns_and_the_first_ones_warm_up() -> None:
    order: list[str] = []

    def arm(name: str) -> Arm:
        def do(watch: Watch) -> None:
            order.append(name)
            watch.count(1)

        return Arm(name, do)

    turns = measure(row(), Prepared([arm("a"), arm("b")]))
    assert "".join(order) == "ab" + "ba" + "ab" + "ba"
    assert {name: len(some) for name, some in turns.items()} == {"a": 3, "b": 3}


def test_a_watch_adds_blocks_and_what_others_measured() -> None:
    watch = Watch()
    with watch.timing():
        sum(range(100_000))
    watch.add(cpu_seconds=10, wall_seconds=20)
    watch.count(5)
    watch.note(peak=3.0)
    assert 10 < watch.turn.cpu_seconds < 11 and 20 < watch.turn.wall_seconds < 30
    assert watch.turn.read("peak") == 3.0
    assert watch.turn.read("speed") == 5 / watch.turn.cpu_seconds


def test_a_ratio_is_of_median_speeds_and_an_odd_turn_changes_nothing() -> None:
    turns = {"a": [turn(1), turn(2), turn(90)], "b": [turn(6), turn(8, wall=4), turn(0.1)]}
    assert SPEED.value(turns) == pytest.approx(3)
    assert SPEED.wall(turns) == 1
    assert PEAK.value({"a": [turn(1, peak=2), turn(1, peak=3), turn(1, peak=9)]}) == 3


def test_arms_that_differ_in_their_results_are_not_compared() -> None:
    def arm(name: str, loss: float) -> Arm:
        return Arm(name, lambda watch: watch.note(loss=loss))

    wanted = row(equal={"loss": 1e-4})
    measure(wanted, Prepared([arm("a", 2.0), arm("b", 2.0001)]))
    with pytest.raises(ValueError, match=re.escape("C1: arms differ in loss beyond 0.0001")):
        measure(wanted, Prepared([arm("a", 2.0), arm("b", 2.001)]))


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        *((SPEED, 4, "aim met"), (SPEED, 2, "met"), (SPEED, 1.9, "NOT met")),
        *((PEAK, 1.2, "aim met"), (PEAK, 1.5, "met"), (PEAK, 1.6, "NOT met")),
    ],
)
def test_the_table_says_what_is_met(target: Target, value: float, verdict: str) -> None:
    line = table(found(target, value)).splitlines()[-1]
    assert line.endswith(f"| {verdict} |")
    assert ("≤ 1.5 MB" in line) == (target is PEAK)


def test_the_summary_has_float32_alone_and_marks_what_is_missed() -> None:
    both = found(SPEED, 1.9)["C1"].found + found(PEAK, 1.2)["C1"].found
    in_bfloat16 = SPEED.model_copy(update={"what": "theirs; ours in bfloat16"})
    row_found = found(in_bfloat16, 4.0)["C1"]
    rows = {"C1": row_found.model_copy(update={"found": both + row_found.found})}
    assert summary(rows).splitlines()[2:] == [
        f"| {row_found.title} | theirs: 1.9x (2x) ✗<br>memory: 1.2 MB (≤ 1.5 MB) |"
    ]


def test_decay_is_a_ratio_that_lost_more_than_a_fifth() -> None:
    assert decayed(found(SPEED, 5.0), found(SPEED, 4.05)) == []
    assert decayed(found(SPEED, 5.0), found(SPEED, 3.95)) == ["C1, theirs: 3.95, was 5"]
    assert decayed({}, found(SPEED, 1.0)) == [], "a new row has nothing to fall from"
    # seconds and megabytes are another machine's: their bound counts
    assert decayed(found(PEAK, 1.0), found(PEAK, 1.4)) == []
    assert decayed(found(PEAK, 1.0), found(PEAK, 1.6)) == ["C1, memory: 1.6, was 1"]
    ratio = PEAK.model_copy(update={"theirs": "b"})
    assert decayed(found(ratio, 1.0), found(ratio, 1.2)) == []
    assert len(decayed(found(ratio, 1.0), found(ratio, 1.3))) == 1


def test_some_rows_join_those_of_the_same_machine_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    write(None, machine(), found(SPEED, 3.0), file)
    before = read(file)
    assert before is not None and before.machine == machine()
    write(before, machine(), {"C10": found(PEAK, 1.0)["C1"], "C9": found(PEAK, 2.0)["C1"]}, file)
    after = read(file)
    assert after is not None and list(after.rows) == ["C1", "C9", "C10"]
    other = machine().model_copy(update={"cpus": 999})
    elsewhere = tmp_path / "elsewhere.json"
    write(None, other, found(SPEED, 3.0), elsewhere)
    with pytest.raises(SystemExit):
        main(["C1", "--out", str(elsewhere)])
    assert "measured on another machine" in capsys.readouterr().err


ONCE = ("C3", "C11", "C12")
"""A loss is the same each turn; a million rows and the demo take minutes each."""


def test_rows_are_named_as_their_files_and_compare_arms_that_they_have() -> None:
    rows = all_rows()
    assert set(rows) == {f"C{number}" for number in range(1, 13)}
    for name, one in rows.items():
        assert one.num_turns >= 5 or name in ONCE
        assert one.targets


QUICK = ("C1", "C2", "C3", "C4", "C6", "C7", "C8", "C9", "C10", "C11")
"""C5 installs TRL 1.12, and C12 is the demo."""


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_every_line_of_a_row_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WORK", "CHECKPOINTS", "CACHE", "ROOTS", "THREADS"):
        monkeypatch.setenv(f"POSTTRAIN_{variable}", "1")  # put back afterwards
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("benchmarks.bench.CACHE", tmp_path / "cache")
    one = run(all_rows()[name], tmp_path, quick=True)
    assert_measured(one, all_rows()[name].targets)


def assert_measured(one: RowFound, targets: Sequence[Target]) -> None:
    assert [found.target for found in one.found] == list(targets)
    assert all(len(turns) == 1 for turns in one.turns.values())
    assert all(found.value >= 0 for found in one.found)


def test_committed_results_are_whole() -> None:
    results = read(RESULTS)
    assert results is not None
    rows = all_rows()
    assert set(results.rows) == set(rows)
    for name, one in results.rows.items():
        assert [found.target for found in one.found] == list(rows[name].targets), name
        assert all(len(turns) == rows[name].num_turns for turns in one.turns.values())
    assert results.machine.flags and results.machine.versions["torch"]
    page = Path("docs/benchmarks.md").read_text(encoding="utf-8")
    assert table(results.rows) in page
    assert gpu_table() in page
    assert summary(results.rows) in Path("README.md").read_text(encoding="utf-8")
