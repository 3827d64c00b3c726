"""What the PPO benchmark measured: a run, reward at equal KL, and the table."""

import json
import math
import platform
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.ppo_judge import NUM_DRAWS, Point
from posttrain.recipe import PostTrainingRecipe
from posttrain.recipe.section import Section

AT_KL = (0.25, 0.5, 1.0)
"""Nats an answer at which gains are compared."""

FLAGS = ("avx", "amx", "neon", "sve")


class Run(Section):
    """One arm on one seed."""

    arm: str
    seed: int
    learning_rate: float
    points: tuple[Point, ...]
    """Held-out figures along training; the first is SFT's own."""

    accuracy: dict[str, float]
    """Fact accuracy of the last policy."""

    cost: dict[str, Any]

    @property
    def summary(self) -> str:
        """The last policy in a line."""
        last = self.points[-1]
        return (
            f"rate {self.learning_rate:g}: gain {last.gain.value:.2f} at KL {last.kl.value:.2f}, "
            f"{self.cost['cpu_seconds']:.0f} CPU s"
        )

    def gain_at(self, kl: float) -> float | None:
        """Gain where training first passes a KL; None where it does not come so far.

        Between two points linearly in the root of KL, in which gains are nearly straight (Gao et
        al. 2023): in KL itself the chord lies below the curve, and large steps would look worse.
        """
        for before, after in pairwise(self.points):
            low, high = (math.sqrt(max(0.0, one.kl.value)) for one in (before, after))
            if low <= math.sqrt(kl) <= high:
                share = (math.sqrt(kl) - low) / (high - low)
                return before.gain.value + share * (after.gain.value - before.gain.value)
        return None


Read = Callable[[Run], float | None]


def speed(run: Run) -> float:
    """Episodes a CPU second."""
    return float(run.cost["num_episodes"] / run.cost["cpu_seconds"])


def rows() -> list[tuple[str, Read, str]]:
    """Name, figure and format of each row."""

    def at(kl: float) -> Read:
        return lambda run: run.gain_at(kl)

    def fact(of_set: str) -> Read:
        return lambda run: run.accuracy[f"fact_accuracy.{of_set}"]

    return [
        ("learning rate", lambda run: run.learning_rate, ".0e"),
        *((f"gain at KL {kl:g}", at(kl), ".2f") for kl in AT_KL),
        ("gain at the end", lambda run: run.points[-1].gain.value, ".2f"),
        ("KL at the end", lambda run: run.points[-1].kl.value, ".2f"),
        ("answers that end", lambda run: run.points[-1].ended, ".2f"),
        ("fact accuracy A", fact("A"), ".2f"),
        ("fact accuracy B", fact("B"), ".2f"),
        ("episodes a CPU second", speed, ".1f"),
        ("peak memory, MB", lambda run: run.cost["peak_mb"], ".0f"),
        ("… above the loaded process", lambda run: run.cost["growth_mb"], ".0f"),
    ]


def cell(values: Sequence[float | None], form: str) -> str:
    """Median, and the range over seeds; a dash where a seed has no such figure."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    middle, low, high = statistics.median(known), min(known), max(known)
    text = format(middle, form)
    if format(low, form) == format(high, form):
        return text
    return f"{text} ({format(low, form)} to {format(high, form)})"


def table(runs: Sequence[Run]) -> str:
    """A row a figure, a column an arm; medians, and ranges over seeds."""
    arms = list(dict.fromkeys(run.arm for run in runs))
    lines = ["| | " + " | ".join(arms) + " |", "|" + "---|" * (len(arms) + 1)]
    for name, read, form in rows():
        cells = [cell([read(run) for run in runs if run.arm == arm], form) for arm in arms]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(runs: Sequence[Run], others: Sequence[Run], recipe: PostTrainingRecipe) -> str:
    """Everything that was measured, and where."""
    arms = list(dict.fromkeys(run.arm for run in runs))
    medians = {
        arm: {
            name: statistics.median(known)
            for name, read, _ in rows()
            if None not in (values := [read(run) for run in runs if run.arm == arm])
            and (known := [value for value in values if value is not None])
        }
        for arm in arms
    }
    found = {
        "machine": machine(),
        "dtype": "float32",
        "threads": 1,
        "draws_a_prompt": NUM_DRAWS,
        "recipe": recipe.ppo.model_dump(),
        "seeds": sorted({run.seed for run in runs}),
        "medians": medians,
        "runs": [run.model_dump() for run in runs],
        "learning_rates_not_chosen": [run.model_dump() for run in others],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def machine() -> dict[str, Any]:
    """Processor, its vector extensions, Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "machine": platform.machine(),
        "processor": facts.get("model name", "unknown"),
        "cpus": sum(line.startswith("processor") for line in lines),
        "flags": sorted(flag for flag in flags if flag.startswith(FLAGS)),
        "python": platform.python_version(),
    }
