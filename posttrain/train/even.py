"""Equal shares for several processes: rows that teach nothing fill the last batch up.

Accelerate repeats rows from the start instead, which count twice then: the result would depend on
the number of processes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset, Sampler


class Evened(Dataset[Any]):
    """The rows, and behind them as many blank ones as make a multiple."""

    def __init__(self, rows: Sequence[Any], multiple: int, blank: Any) -> None:
        self.rows = rows
        self.blank = blank
        self.num_blank = -len(rows) % multiple

    def __len__(self) -> int:
        return len(self.rows) + self.num_blank

    def __getitem__(self, index: int) -> Any:
        return self.rows[index] if index < len(self.rows) else self.blank


class EvenedOrder(Sampler[int]):
    """An order of the rows, the same on every process, with the blank ones last."""

    def __init__(self, rows: Any, length: int) -> None:
        self.rows = rows
        self.length = length

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        yield from self.rows
        yield from range(len(self.rows), self.length)
