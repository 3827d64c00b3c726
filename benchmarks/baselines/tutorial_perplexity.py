"""Perplexity as tutorials have it: `model(labels=...)`, in padded batches or a text at a time.

Mended: the batches' losses are weighted by their tokens; a plain mean of batch means is another
figure.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

IGNORED = -100


@torch.no_grad()
def perplexity(
    model: Any, texts: Sequence[Sequence[int]], pad_id: int, batch_size: int, width: int | None
) -> float:
    """Over all predicted tokens; `width` pads every text to it."""
    total, number = 0.0, 0
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        size = width or max(map(len, batch))
        ids = torch.tensor([[*text, *[pad_id] * (size - len(text))] for text in batch])
        mask = torch.tensor([[1] * len(text) + [0] * (size - len(text)) for text in batch])
        labels = ids.masked_fill(mask == 0, IGNORED)
        counted = int((labels[:, 1:] != IGNORED).sum())
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        total += float(loss) * counted
        number += counted
    return math.exp(total / number)
