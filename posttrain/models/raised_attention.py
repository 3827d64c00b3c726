"""Attention in float32 where a CPU computes in bfloat16.

A CPU's kernel takes two to seven times as long for bfloat16 as for float32: over one new token of
32 rows, and in the backward pass. So queries, keys and values are raised for it alone, as
`posttrain.models.cache` keeps those of earlier tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

RAISED = "posttrain_raised"
"""Name under which Transformers knows it."""


def raised_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BHSD: Tensor,
    value_BHSD: Tensor,
    attention_mask: Tensor | None,
    **more: Any,
) -> tuple[Tensor, None]:
    """What Transformers calls in a layer: scaled dot product attention, its result lowered again.

    Args:
        module: the layer.
        query_BHTD: B rows, H heads, T positions, D the width of a head.
        key_BHSD: of S positions.
        value_BHSD: of the same.
        attention_mask: as for scaled dot product attention.
        more: what it is told besides.
    """
    with torch.autocast("cpu", enabled=False):
        found, _ = sdpa_attention_forward(
            module,
            query_BHTD.float(),
            key_BHSD.float(),
            value_BHSD.float(),
            attention_mask,
            **more,
        )
    return found.to(query_BHTD.dtype), None


AttentionInterface.register(RAISED, raised_attention)
AttentionMaskInterface.register(RAISED, sdpa_mask)


def raise_attention(model: PreTrainedModel) -> None:
    """Give a model on a CPU this attention in place of `sdpa`; in float32 it is the same.

    Whatever the weights are in: under autocast float32's queries come in bfloat16 too.
    """
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(RAISED)
