"""Attention within each sequence of a packed row, on a CPU.

Transformers tells packed sequences apart by a mask of T x T, which a CPU's kernel multiplies out:
of a row of 512 tokens that holds ten texts nine tenths are for nothing. Here each sequence is
given to the kernel alone, as FlashAttention's kernels for packed rows do on a GPU. Only a trainer's
model gets it: every batch that it sees is one packed row.

Shapes: H heads, T positions of the row, D width of a head.
"""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from posttrain.align.forward import causal
from posttrain.models.raised_attention import RAISED, raised_attention

PACKED = "posttrain_packed"
"""Name under which Transformers knows it."""

KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def packed_attention(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1HTD: Tensor,
    value_1HTD: Tensor,
    attention_mask: Tensor | None,
    *,
    position_ids: Tensor | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """What Transformers calls in a layer.

    Args:
        module: the layer.
        query_1HTD: of one packed row.
        key_1HTD: of the same positions.
        value_1HTD: of the same positions.
        attention_mask: None; the sequences are told by their positions.
        position_ids: (1, T); each sequence begins at 0.
        sliding_window: how many tokens, itself included, a token sees.
        more: what scaled dot product attention is told.

    Raises:
        ValueError: there is more than one row, or the model does not hand positions on.
    """
    if position_ids is None or position_ids.shape != (1, query_1HTD.shape[2]):
        raise ValueError(
            f"{type(module).__name__}: position ids of one packed row are needed, of "
            f"{tuple(query_1HTD.shape)} got {None if position_ids is None else position_ids.shape}"
        )
    starts = (position_ids[0] == 0).nonzero().flatten().tolist()
    lengths = [b - a for a, b in zip(starts, [*starts[1:], position_ids.shape[1]], strict=True)]
    sequences = (one.split(lengths, dim=2) for one in (query_1HTD, key_1HTD, value_1HTD))
    parts = []
    for length, query, key, value in zip(lengths, *sequences, strict=True):
        mask = None
        if sliding_window is not None and length > sliding_window:
            mask = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - sliding_window)
        parts.append(raised_attention(module, query, key, value, mask, **more)[0])
    return torch.cat(parts, dim=1).to(value_1HTD.dtype), None


def no_mask(*_: Any, **__: Any) -> None:
    """Nothing is left to be masked."""


# not part of a compiled layer: its loop goes by the lengths at hand, each row would be a new graph
AttentionInterface.register(PACKED, torch.compiler.disable(packed_attention))
AttentionMaskInterface.register(PACKED, no_mask)


def attend_within_sequences(model: PreTrainedModel | PeftModel) -> bool:
    """Give the model this attention where it can have it: whether it has.

    Families with another kind of layer than full and sliding attention keep their own.
    """
    owner = causal(model)
    kinds = set(getattr(owner.config, "layer_types", None) or KNOWN_LAYERS)
    if owner.device.type != "cpu" or owner.config._attn_implementation not in ("sdpa", RAISED):
        return False
    if kinds - KNOWN_LAYERS:
        return False
    owner.set_attn_implementation(PACKED)
    return True
