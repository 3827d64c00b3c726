"""Rows of packed sequences to a batch in which no sequence sees another.

Position ids restart with each sequence, and no attention mask is passed: that is how Transformers
recognises packing (an attention mask of ones would undo it). The first label of each sequence is
masked, so that its predecessor is not asked to predict it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.models.packed_attention import attend_within_sequences

IGNORED = -100


@dataclass(frozen=True)
class PackedCollator:
    """Batches rows of `input_ids`, `lengths` and, where not every token is supervised, `labels`.

    Rows are padded to the longest; the padding is a sequence of its own, and masked. With
    `flatten` the rows become one: FlashAttention, and ours on a CPU, tell packed sequences apart in
    a single row only.
    """

    pad_id: int
    flatten: bool = False

    @property
    def blank(self) -> Mapping[str, Any]:
        """A row that teaches nothing: a sequence's first token is never asked for."""
        return {"input_ids": [self.pad_id], "labels": [IGNORED], "lengths": [1], "ids": []}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        longest = sum(map(_width, rows)) if self.flatten else max(map(_width, rows))
        lines = (
            [self._line(rows, longest)]
            if self.flatten
            else [self._line([row], longest) for row in rows]
        )
        return {
            name: torch.tensor([line[name] for line in lines], dtype=torch.long)
            for name in ("input_ids", "labels", "position_ids")
        }

    def _line(self, rows: Sequence[Mapping[str, Any]], width: int) -> dict[str, list[int]]:
        input_ids = [token for row in rows for token in row["input_ids"]]
        labels = [label for row in rows for label in row.get("labels", row["input_ids"])]
        lengths = [length for row in rows for length in row["lengths"]]
        padding = width - len(input_ids)
        position = 0
        for length in lengths:
            labels[position] = IGNORED
            position += length
        positions = [i for length in [*lengths, padding] for i in range(length)]
        return {
            "input_ids": input_ids + [self.pad_id] * padding,
            "labels": labels + [IGNORED] * padding,
            "position_ids": positions,
        }


def packed_collator(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerFast
) -> PackedCollator:
    """The collator for a model's kind of attention, which on a CPU becomes that of packed rows.

    Any id may pad: masks come from lengths.
    """
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    flatten = attend_within_sequences(model) or "flash" in str(model.config._attn_implementation)
    return PackedCollator(pad, flatten)


def _width(row: Mapping[str, Any]) -> int:
    return len(row["input_ids"])
