"""What `make bench` found: results in JSON, the table, and what has decayed since."""

from collections.abc import Mapping, Sequence
from typing import Self

from benchmarks.harness import Prepared, Row, Target, Turn
from benchmarks.machine import Machine
from posttrain.recipe.section import Section

DECAY = 0.2
"""Share of a ratio that may be lost before `make bench-check` fails."""


class Found(Section):
    """A target and what was measured."""

    target: Target
    value: float
    wall: float | None
    """By the clock on the wall, where the value is a ratio of CPU seconds."""

    @property
    def verdict(self) -> str:
        """In words."""
        if self.target.is_met(self.value, self.target.aim):
            return "aim met"
        return "met" if self.target.is_met(self.value) else "NOT met"

    def has_decayed(self, before: Self) -> bool:
        """Whether a ratio is worse than before, beyond noise; what is no ratio has its bound."""
        if self.target.theirs is None:
            return not self.target.is_met(self.value)
        if self.target.at_most:
            return self.value * (1 - DECAY) > before.value
        return self.value < before.value * (1 - DECAY)


class RowFound(Section):
    """A row's targets, and every turn of every arm."""

    title: str
    found: tuple[Found, ...]
    facts: dict[str, float | str]
    dtypes: dict[str, str]
    turns: dict[str, tuple[Turn, ...]]

    @classmethod
    def of(cls, row: Row, prepared: Prepared, turns: Mapping[str, Sequence[Turn]]) -> Self:
        """Read the targets off the turns."""
        return cls(
            title=row.title,
            found=tuple(
                Found(target=one, value=one.value(turns), wall=one.wall(turns))
                for one in row.targets
            ),
            facts=dict(prepared.facts),
            dtypes={arm.name: arm.dtype for arm in prepared.arms},
            turns={name: tuple(some) for name, some in turns.items()},
        )


class Results(Section):
    """One run of the benchmark."""

    machine: Machine
    threads: int
    rows: dict[str, RowFound]

    def with_rows(self, rows: Mapping[str, RowFound]) -> Self:
        """These results with some rows measured anew, in the table's order."""
        merged = {**self.rows, **rows}
        order = sorted(merged, key=lambda name: (name[0], int(name[1:])))
        return self.model_copy(update={"rows": {name: merged[name] for name in order}})


HEAD = "| row | | against | ratio | by the clock | at least | aim | |\n" + "|---" * 8 + "|"


def table(rows: Mapping[str, RowFound]) -> str:
    """A line a target."""
    return "\n".join(
        [HEAD, *(line(name, row, one) for name, row in rows.items() for one in row.found)]
    )


def line(name: str, row: RowFound, one: Found) -> str:
    """A target in the table."""
    target = one.target
    sign = "≤ " if target.at_most else ""
    cells = [
        name,
        row.title,
        target.what,
        quantity(one.value, target.unit),
        "" if one.wall is None else quantity(one.wall, target.unit),
        f"{sign}{quantity(target.bound, target.unit)}",
        f"{sign}{quantity(target.aim, target.unit)}",
        one.verdict,
    ]
    return "| " + " | ".join(cells) + " |"


def summary(rows: Mapping[str, RowFound]) -> str:
    """A line a row, in float32: what README shows of the table."""
    lines = ["| | measured (at least) |", "|---|---|"]
    for row in rows.values():
        told = []
        for one in row.found:
            target = one.target
            if "bfloat16" in target.what:
                continue
            sign, miss = "≤ " if target.at_most else "", "" if target.is_met(one.value) else " ✗"
            bound = f"{sign}{quantity(target.bound, target.unit)}"
            told.append(f"{target.what}: {quantity(one.value, target.unit)} ({bound}){miss}")
        lines.append(f"| {row.title} | {'<br>'.join(told)} |")
    return "\n".join(lines)


def quantity(value: float, unit: str) -> str:
    """A figure with its unit."""
    return f"{value:.3g}{'' if unit == 'x' else ' '}{unit}".strip()


ON_A_GPU = (
    ("G1", "1B LoRA SFT, packed 2,048, bfloat16, tokens/s", "70k", "90k"),
    ("G2", "the same against stock TRL, fill at most 0.4", "3x", "5x"),
    ("G3", "8B QLoRA, 2 x 2,048, peak memory", "≤ 12 GiB", "≤ 8 GiB"),
    ("G4", "Base FT of all weights, 0.5 to 1B, bfloat16, MFU", "40%", "48%"),
    ("G5", "PPO rollouts, 1B, batch 64, context 512, tokens/s", "24k", "36k"),
    ("G6", "PPO, samples/s and memory against TRL 1.12", "4x; ≤ 0.45x", "8x; ≤ 0.35x"),
    ("G7", "perplexity, 1B, tokens/s", "160k", "240k"),
    ("G8", "GPU idle between steps", "≤ 5%", "≤ 2%"),
)
"""Rows of one H100, their bounds and aims. No machine with a GPU has measured them."""


def gpu_table() -> str:
    """The rows of a GPU, which say that they are not measured."""
    head = "| row | | at least | aim | |\n" + "|---" * 5 + "|"
    return "\n".join([head, *(f"| {' | '.join(row)} | not measured |" for row in ON_A_GPU)])


def decayed(before: Mapping[str, RowFound], now: Mapping[str, RowFound]) -> list[str]:
    """Targets that are worse than they were, in words."""
    lines = []
    for name, row in now.items():
        known = {one.target.what: one for one in before[name].found} if name in before else {}
        for one in row.found:
            what = one.target.what
            if what in known and one.has_decayed(known[what]):
                lines.append(f"{name}, {what}: {one.value:.3g}, was {known[what].value:.3g}")
    return lines
