"""A NaN or an infinity is seen in the step that it comes in, and named: step, batch and rows.

Looked at are the loss of each batch, the norm of the step's gradient, and every trained weight
after the step. A bad loss or gradient is left out while the recipe bears it (`max_bad_steps`); a
bad weight cannot be taken back, and stops the stage at once.
"""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from posttrain import processes

ROWS = "row_numbers"
"""Of a batch: which rows of the training data it holds."""

NAMED_ROWS = 32
"""Rows that an error names at most."""


@dataclass
class Tolerance:
    """How many bad steps a recipe bears, and how many there were."""

    maximum: int = 0
    seen: int = 0

    def bear(self, what: str) -> None:
        """Count a bad step, which is then left out.

        Raises:
            FloatingPointError: there were more than the recipe bears.
        """
        self.seen += 1
        told = f"{what} (bad steps: {self.seen}, max_bad_steps: {self.maximum})"
        if self.seen > self.maximum:
            raise FloatingPointError(f"{told}; lower learning_rate or look at these rows")
        logging.getLogger(__name__).warning("%s; the step is left out", told)


@dataclass(frozen=True)
class SeenBatch:
    """One forward and backward pass of a step."""

    rows: Sequence[int]
    loss: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether its loss is a number."""
        return math.isfinite(float(self.loss))


class Numbered(Dataset[Any]):
    """Rows with their numbers."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[int, Any]:
        return number, self.rows[number]


@dataclass(frozen=True)
class NumberedCollator:
    """A stage's own collator; each batch says which rows it holds."""

    collator: Any

    def __call__(self, numbered: Sequence[tuple[int, Any]]) -> dict[str, Any]:
        batch = self.collator([row for _, row in numbered])
        return {**batch, ROWS: [number for number, _ in numbered]}


def names(data: Any, numbers: Iterable[int]) -> str:
    """Rows by the ids of what is in them; by their place where they have none (packed text)."""
    return listed([name for number in numbers for name in _ids(data[number], number)])


def listed(found: Sequence[str]) -> str:
    """Names in a line, so many as a person reads."""
    more = f" and {len(found) - NAMED_ROWS} more" if len(found) > NAMED_ROWS else ""
    return f"{', '.join(found[:NAMED_ROWS])}{more}"


def _ids(row: Any, number: int) -> Sequence[str]:
    if isinstance(row, Mapping):
        return list(row["ids"]) if "ids" in row else [f"block {number}"]
    return [row.id] if row.id else []  # none: it only fills a batch up


def blame(batches: Sequence[SeenBatch], data: Any, norm: float) -> str:
    """What is wrong with a step whose loss or gradient is, and the rows that it may come from.

    Every process is asked, and all of them say the same.
    """
    bad = [(number, one) for number, one in enumerate(batches, start=1) if not one.is_finite]
    lines = [
        f"batch {number} of {len(batches)} (loss {float(one.loss)}): rows {names(data, one.rows)}"
        for number, one in bad
    ]
    if found := processes.gathered(lines):
        return f"the loss is NaN or infinite: {'; '.join(found)}"
    rows = "; ".join(processes.gathered([batches_of(batches, data)]))
    return f"the gradient's norm is {norm}: {rows}"


def batches_of(batches: Sequence[SeenBatch], data: Any) -> str:
    """The rows of a step of this process, batch by batch."""
    return "; ".join(
        f"batch {number} of {len(batches)}: rows {names(data, one.rows)}"
        for number, one in enumerate(batches, start=1)
    )


@torch.no_grad()
def bad_weight(weights: Mapping[str, nn.Parameter]) -> str | None:
    """The first weight that holds a NaN or an infinity."""
    if math.isfinite(_largest(weights.values())):
        return None
    return next(name for name, weight in weights.items() if not bool(torch.isfinite(weight).all()))


def _largest(weights: Collection[nn.Parameter]) -> float:
    """The largest magnitude: each weight is read once, no tensor of its size made, none overflows.

    A CPU finds smallest and largest in a twentieth of the time that it takes for this norm; of
    sharded weights the norm asks every process.
    """
    if any(type(one.data) is not Tensor or one.device.type != "cpu" for one in weights):
        return float(nn.utils.get_total_norm(weights, norm_type=math.inf))
    ends = [end for one in weights if one.numel() > 0 for end in torch.aminmax(one)]
    return float(torch.stack([end.abs().float() for end in ends]).max()) if ends else 0.0


def check_weights(weights: Mapping[str, nn.Parameter], where: str) -> None:
    """None of these weights is NaN or infinite.

    Raises:
        FloatingPointError: names the first that is.
    """
    if (name := bad_weight(weights)) is not None:
        raise FloatingPointError(
            f"{where}: the weight {name} holds NaN or infinite values; lower learning_rate"
        )
