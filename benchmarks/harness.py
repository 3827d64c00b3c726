"""The frame of `make bench`: arms that do equal work take turns, and ratios of medians are read.

A row of the table is a module of `benchmarks/rows/` whose name begins with the row's (`c03_...`)
and which defines `ROW`:

    ROW = Row(
        name="C8",
        title="Tokenise and store",
        targets=(Target(what="a map with padding", ours="ours", theirs="map", bound=2.5, aim=4),),
        prepare=prepare,
    )

    def prepare(bench: Bench) -> Prepared:
        rows = ...                                  # not timed; files go under bench.folder
        def ours(watch: Watch) -> None:
            ...                                     # set-up: not timed
            with watch.timing():
                ...                                 # CPU of this process and its children, and wall
            watch.count(num_tokens)                 # what speed is measured in; 1 where time counts
            watch.note(peak_mb=..., fill=...)       # any other figures of this turn
        return Prepared(arms=(Arm("ours", ours), Arm("map", ...)), facts={"seed": 0})

A target is a ratio of speeds (work a CPU second, `ours` over `theirs`), or with `figure` a figure
of `ours`: one that was noted, `cpu_seconds`, `wall_seconds` or `speed`; over `theirs` where that is
named, and with `at_most` one that is to stay low. `Row.equal` names figures that must not differ
between arms by more than a relative tolerance: without equal results there is no ratio. A process
of its own reports by `watch.add(cpu_seconds=..., wall_seconds=...)`. `bench.quick` asks for the
smallest sizes that still run every line: the tests use it, and nothing is claimed of its figures.
"""

import gc
import importlib
import pkgutil
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import rows
from posttrain.recipe.section import Section

NUM_TURNS = 5
Facts = Mapping[str, float | str]


class Turn(Section):
    """One arm's turn."""

    cpu_seconds: float
    wall_seconds: float
    work: float
    figures: dict[str, float]

    @property
    def speed(self) -> float:
        """Work a CPU second."""
        return self.work / self.cpu_seconds

    def read(self, figure: str) -> float:
        """A figure by its name."""
        if figure in ("cpu_seconds", "wall_seconds", "speed"):
            return float(getattr(self, figure))
        return self.figures[figure]


class Watch:
    """What an arm measures its turn with."""

    def __init__(self) -> None:
        self.cpu_seconds = self.wall_seconds = self.work = 0.0
        self.figures: dict[str, float] = {}

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Measure a block; several add up."""
        cpu, wall = _cpu_seconds(), time.perf_counter()
        yield
        self.add(_cpu_seconds() - cpu, time.perf_counter() - wall)

    def add(self, cpu_seconds: float, wall_seconds: float) -> None:
        """Add what was measured elsewhere."""
        self.cpu_seconds += cpu_seconds
        self.wall_seconds += wall_seconds

    def count(self, work: float) -> None:
        """Add work done: tokens, pairs, prompts."""
        self.work += work

    def note(self, **figures: float) -> None:
        """Keep other figures of the turn."""
        self.figures |= figures

    @property
    def turn(self) -> Turn:
        """What was found."""
        return Turn(
            cpu_seconds=self.cpu_seconds,
            wall_seconds=self.wall_seconds,
            work=self.work,
            figures=self.figures,
        )


def _cpu_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


@dataclass(frozen=True)
class Arm:
    """A way to do the row's work."""

    name: str
    run: Callable[[Watch], None]
    dtype: str = "float32"


@dataclass(frozen=True)
class Prepared:
    """Arms that are ready, and what they stand on: seeds, sizes, fill."""

    arms: Sequence[Arm]
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a row is prepared with."""

    folder: Path
    """Its own, and empty."""

    cache: Path
    """Outlives the run: environments, and models that take minutes."""

    quick: bool = False


class Target(Section):
    """What a row promises."""

    what: str
    """What is compared with, or what is measured."""

    ours: str
    theirs: str | None = None
    figure: str = "speed"
    bound: float
    """At least, or with `at_most` at most."""

    aim: float
    at_most: bool = False
    unit: str = "x"

    def value(self, turns: Mapping[str, Sequence[Turn]], figure: str | None = None) -> float:
        """The figure's median, over that of `theirs` where there is one."""

        def median(arm: str) -> float:
            return statistics.median(turn.read(figure or self.figure) for turn in turns[arm])

        return median(self.ours) / (1.0 if self.theirs is None else median(self.theirs))

    def wall(self, turns: Mapping[str, Sequence[Turn]]) -> float | None:
        """The ratio of speeds by the clock on the wall."""
        if self.figure != "speed" or self.theirs is None:
            return None
        by_clock = {
            arm: [turn.model_copy(update={"cpu_seconds": turn.wall_seconds}) for turn in some]
            for arm, some in turns.items()
        }
        return self.value(by_clock)

    def is_met(self, value: float, bound: float | None = None) -> bool:
        """Whether a value reaches the bound, or another one."""
        bound = self.bound if bound is None else bound
        return value <= bound if self.at_most else value >= bound


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    title: str
    targets: Sequence[Target]
    prepare: Callable[[Bench], Prepared]
    equal: Mapping[str, float] = field(default_factory=dict)
    """Figures that all arms which note them must agree on, and the relative tolerance."""

    num_turns: int = NUM_TURNS
    num_warm: int = 1
    """Turns of each arm before the first that counts."""


def measure(
    row: Row, prepared: Prepared, quick: bool = False, num_turns: int | None = None
) -> dict[str, list[Turn]]:
    """The arms in turn, another one first each time.

    Raises:
        ValueError: arms do not agree on a figure, so that their speeds must not be compared.
    """
    arms = list(prepared.arms)
    turns: dict[str, list[Turn]] = {arm.name: [] for arm in arms}
    num_warm = 0 if quick else row.num_warm
    num_turns = 1 if quick else num_turns or row.num_turns
    for number in range(num_warm + num_turns):
        first = number % len(arms)
        for arm in arms[first:] + arms[:first]:
            watch = Watch()
            gc.collect()
            gc.freeze()  # trainers end with a collection: of the libraries' objects, a second of it
            arm.run(watch)
            turn = watch.turn
            if number >= num_warm:
                turns[arm.name].append(turn)
            print(f"{row.name} {number} {arm.name}: {turn.cpu_seconds:.2f} CPU s", file=sys.stderr)
    check_equal(row, turns)
    return turns


def check_equal(row: Row, turns: Mapping[str, Sequence[Turn]]) -> None:
    """Compare the arms' results.

    Raises:
        ValueError: says which figure differs.
    """
    for name, tolerance in row.equal.items():
        found = {
            arm: [turn.figures[name] for turn in some if name in turn.figures]
            for arm, some in turns.items()
        }
        values = [value for some in found.values() for value in some]
        noting = [arm for arm, some in found.items() if some]
        assert len(noting) > 1, f"{row.name}: no two arms note {name}: {noting}"
        if max(values) - min(values) > tolerance * abs(max(values, key=abs)):
            raise ValueError(f"{row.name}: arms differ in {name} beyond {tolerance:g}: {found}")


def all_rows() -> dict[str, Row]:
    """Every row of `benchmarks/rows/`, by name."""
    names = [f"{rows.__name__}.{one.name}" for one in pkgutil.iter_modules(rows.__path__)]
    found: list[Row] = [importlib.import_module(name).ROW for name in sorted(names)]
    return {row.name: row for row in found}
