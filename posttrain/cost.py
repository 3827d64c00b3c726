"""What a step costs: time, tokens and peak memory, sampled while it works.

Memory is that of the process and of all that it started, resident set size; pages that two of them
share count twice. A GPU's is what torch's allocator held at most, of the fullest GPU. A step that
was killed and went on from a checkpoint tells of its last attempt.

Figures lie in `cost.json` of what the step made, with those of the steps before it, and are no part
of the content: equal data is equal, however long it took. A step from the cache tells what its
first run cost.
"""

import dataclasses
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil
from pydantic import TypeAdapter

from posttrain.allocator import give_back_freed_memory
from posttrain.artifacts import COST, Folder
from posttrain.recipe.section import Section
from posttrain.reports import StepCost, TokenUse
from posttrain.runtime import Runtime

P = ParamSpec("P")
Result = TypeVar("Result")

SAMPLE_SECONDS = 0.25
"""Between two looks at the memory; a step has one at its start and one at its end besides."""

COSTS = TypeAdapter(tuple[StepCost, ...])


class Counts(Section):
    """What one process of several counted."""

    tokens: dict[TokenUse, int]
    peak_gpu_bytes: int | None


class Meter:
    """Counts and samples of the work at hand."""

    def __init__(self) -> None:
        self.tokens: Counter[TokenUse] = Counter()
        self.peak_gpu_bytes: int | None = None
        give_back_freed_memory()  # of the step before, in the same process
        self.bytes_at_start = self.peak_bytes = memory()
        self.started, self.cpu_at_start = time.perf_counter(), processor_seconds()
        self.wall_seconds = self.cpu_seconds = 0.0

    def look(self) -> None:
        """Take a sample."""
        self.peak_bytes = max(self.peak_bytes, memory())

    def stop(self) -> None:
        """Take the last sample, and the time."""
        self.look()
        self.wall_seconds = time.perf_counter() - self.started
        self.cpu_seconds = processor_seconds() - self.cpu_at_start
        self.add(Counts(tokens={}, peak_gpu_bytes=gpu_peak()))

    def add(self, counts: Counts) -> None:
        """What another process counted."""
        self.tokens.update(counts.tokens)
        seen = (self.peak_gpu_bytes, counts.peak_gpu_bytes)
        self.peak_gpu_bytes = max((one for one in seen if one is not None), default=None)

    @property
    def counts(self) -> Counts:
        return Counts(tokens=dict(self.tokens), peak_gpu_bytes=self.peak_gpu_bytes)

    def cost(self, step: str) -> StepCost:
        """The figures of a step that has ended."""
        return StepCost(
            step=step,
            wall_seconds=self.wall_seconds,
            cpu_seconds=self.cpu_seconds,
            tokens=dict(self.tokens),
            bytes_at_start=self.bytes_at_start,
            peak_bytes=self.peak_bytes,
            peak_gpu_bytes=self.peak_gpu_bytes,
        )


METER: ContextVar[Meter | None] = ContextVar("METER", default=None)


@contextmanager
def measuring() -> Iterator[Meter]:
    """Measure what is done within; the figures are whole at its end."""
    meter, done = Meter(), threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            meter.look()

    reset_gpu_peak()
    sampler = threading.Thread(target=watch, daemon=True)
    sampler.start()
    token = METER.set(meter)
    try:
        yield meter
    finally:
        METER.reset(token)
        done.set()
        sampler.join()
        meter.stop()


def count_tokens(use: TokenUse, number: int) -> None:
    """Add to what the step at hand has encoded, trained on or generated."""
    if (meter := METER.get()) is not None:
        meter.tokens[use] += number


def measured(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Do a step's work, and leave in the folders that it makes what it cost."""
    with measuring() as meter:
        made = work(*args, **kwargs)
    keep(meter, made, (*args, *kwargs.values()))
    return made


def keep(meter: Meter, made: object, given: object) -> StepCost | None:
    """Write the cost of what was made, after the costs of what it was made from.

    Returns:
        The step's own; None where it made no folder: it handed on one that it was given.
    """
    work = Runtime.from_environment().work.resolve()
    new = [one for one in folders_in(made) if one.path.resolve().is_relative_to(work)]
    if not new:
        return None
    cost = meter.cost(new[0].stage)
    text = COSTS.dump_json((*costs_of(folders_in(given)), cost), indent=1).decode()
    for folder in new:
        folder.add(COST, text + "\n")
    return cost


def costs_of(folders: Iterable[Folder[Any]]) -> tuple[StepCost, ...]:
    """The steps behind some folders, each once, in the order in which they ran."""
    found: dict[str, StepCost] = {}
    for folder in folders:
        if (file := Path(folder.path) / COST).exists():
            for cost in COSTS.validate_json(file.read_bytes()):
                found.setdefault(cost.step, cost)
    return tuple(found.values())


def folders_in(value: object) -> list[Folder[Any]]:
    """Folders among a step's arguments or results, however they are held together."""
    if isinstance(value, Folder):
        return [value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        return [folder for one in value for folder in folders_in(one)]
    return []


def memory() -> int:
    """Bytes that this process and all that it started hold."""
    total = 0
    for process in _tree():
        with suppress(psutil.Error):  # it has just ended
            total += process.memory_info().rss
    return total


def processor_seconds() -> float:
    """Processor time of this process, of what it started, and of those of them that ended."""
    total = 0.0
    for process in _tree():
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def gpu_peak() -> int | None:
    """Most bytes that torch has held on this process's GPU; None where it uses none."""
    torch = sys.modules.get("torch")  # a step that has not imported it uses no GPU by it
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def reset_gpu_peak() -> None:
    """Begin anew: steps may share a process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _tree() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]
