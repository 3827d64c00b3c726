"""The processes that run one stage together: who we are among them, and what they exchange.

`posttrain.launch` starts them. Alone, every function here hands back what it was given.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import distributed

Row = TypeVar("Row")
Result = TypeVar("Result")


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which one this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the one that writes what outlives the stage."""
    return rank() == 0


def wait() -> None:
    """Until every process is here."""
    if count() > 1:
        distributed.barrier()


def share_of(number: int) -> slice:
    """This process's consecutive part of `number` rows; parts differ by one row at most."""
    size, more = divmod(number, count())
    start = rank() * size + min(rank(), more)
    return slice(start, start + size + (rank() < more))


def gathered(ours: Sequence[Row]) -> list[Row]:
    """Every process's rows, by rank: the inverse of `share_of`."""
    if count() == 1:
        return list(ours)
    parts: list[Sequence[Row]] = [[] for _ in range(count())]
    distributed.all_gather_object(parts, list(ours))
    return [row for part in parts for row in part]


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over processes, in place."""
    if count() > 1:
        distributed.all_reduce(tensor)
    return tensor


def sum_gradients(weights: Sequence[torch.nn.Parameter]) -> None:
    """Make each gradient the sum over processes; one that has none adds zeros.

    One message for all of them: adapters are many small tensors.
    """
    if count() == 1:
        return
    found = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    flat = summed(torch.cat([gradient.flatten() for gradient in found]))
    for weight, part in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
        weight.grad = part.view_as(weight).clone()


def by_main(work: Callable[[], Result]) -> Result:
    """Let the main process alone do it; all of them get what it made."""
    if count() == 1:
        return work()
    made: list[Any] = [work() if is_main() else None]
    distributed.broadcast_object_list(made)
    return cast(Result, made[0])


def agreed(ours: bool) -> bool:
    """Whether any process says so: what one decides, all do."""
    return any(gathered([ours]))


def side_by_side(
    work: Callable[[Sequence[Row]], Sequence[Result]], rows: Sequence[Row]
) -> list[Result]:
    """Let each process work on its share of the rows; all of them get all results, in order."""
    return gathered(work(rows[share_of(len(rows))]))
