"""The generation of tutorials: `model.generate`, one prompt at a time."""

from collections.abc import Sequence
from typing import Any

import torch


@torch.no_grad()
def answer(
    model: Any, prompt: Sequence[int], max_new_tokens: int, end_ids: Sequence[int], sampled: bool
) -> list[int]:
    """New tokens of one prompt; plain sampling at temperature 1, or greedy."""
    ids = torch.tensor([list(prompt)])
    how: dict[str, Any] = {"temperature": 1.0, "top_k": 0} if sampled else {}
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=sampled,
        eos_token_id=list(end_ids),
        pad_token_id=end_ids[0],
        **how,
    )
    new: list[int] = found[0, len(prompt) :].tolist()
    return new
