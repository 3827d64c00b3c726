"""The reward model of tutorials: one pair at a time, each side a forward pass of its own.

Written anew: a backbone and a linear head on it, -log sigmoid of the difference, AdamW on every
weight. Mended: the score is read at the last real token, where the tutorial reads the last position
even of a padded row. Set as for the other arm: gradients of `pairs_a_step` pairs are accumulated,
where the tutorial steps after each.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Sides = tuple[list[int], list[int]]
"""Chosen and rejected, prompt included."""


class TutorialReward(nn.Module):
    """Backbone and head."""

    def __init__(self, backbone: Any, width: int | None, pad_id: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.config.hidden_size, 1)
        self.width, self.pad_id = width, pad_id

    def forward(self, ids: Sequence[int]) -> Tensor:
        """Score of one text, padded to `width` where it is given."""
        room = 0 if self.width is None else self.width - len(ids)
        padded = torch.tensor([[*ids, *[self.pad_id] * room]])
        mask = torch.tensor([[1] * len(ids) + [0] * room])
        hidden = self.backbone(input_ids=padded, attention_mask=mask).last_hidden_state
        score: Tensor = self.head(hidden[:, len(ids) - 1])
        return score


def train(model: TutorialReward, pairs: Sequence[Sides], pairs_a_step: int, rate: float) -> float:
    """One pass.

    Returns:
        Mean loss of the first step's pairs.
    """
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=rate
    )
    losses = []
    for number, (chosen, rejected) in enumerate(pairs, start=1):
        loss = -torch.log(torch.sigmoid(model(chosen) - model(rejected)))
        (loss.sum() / pairs_a_step).backward()
        losses.append(float(loss))
        if number % pairs_a_step == 0:
            optimizer.step()
            optimizer.zero_grad()
    return sum(losses[:pairs_a_step]) / pairs_a_step
