"""The order of training rows: random, but rows of like lengths share a batch.

What Transformers' own sampler lacks: batches in random order within a group (its runs from long to
short over and over), and an order fixed by seed and epoch alone, which a resumed run repeats.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

GROUP_BATCHES = 16
"""Batches that are sorted together: more waste less on padding and mix less."""


class LengthGroups(Sampler[int]):
    """Indices of one epoch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        group = GROUP_BATCHES * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), group):
            alike = sorted(order[start : start + group], key=lambda index: self.lengths[index])
            batches += [
                alike[i : i + self.batch_size] for i in range(0, len(alike), self.batch_size)
            ]
        # a short batch stays last: elsewhere it would shift the cut of every later one
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        shuffled = [full[i] for i in torch.randperm(len(full), generator=generator).tolist()]
        yield from (index for batch in shuffled + short for index in batch)
