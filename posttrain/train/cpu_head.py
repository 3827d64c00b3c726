"""TRL's fused output layer as a CPU likes it.

TRL asks the model for log-probabilities of the labels (`fused_lm_head=True`). On a GPU a kernel of
its own folds tile after tile; on a CPU it does the same by some fifteen operations on each tile, at
every position, supervised or not, and once more in the backward pass: a third of a step. Here the
supervised positions alone pass the output layer, by one product and PyTorch's cross-entropy.
"""

import functools
import types
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from posttrain.align.forward import check_head, log_probs_and_hits
from posttrain.models.generate import evaluating
from posttrain.train.collate import IGNORED


def add_cpu_head(model: PreTrainedModel) -> None:
    """Answer `fused_lm_head=True` in TRL's place.

    Nothing changes on a GPU, with a router's loss, or where the family scales its logits in a way
    that we do not know and TRL does.
    """
    if model.device.type != "cpu" or getattr(model.config, "output_router_logits", False):
        return
    try:
        with evaluating(model):
            check_head(model)
    except ValueError:
        return
    theirs = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, fused_lm_head: bool = False, **more: Any) -> Any:
        if not fused_lm_head:
            return theirs(*args, **more)
        return _read(self, labels_BS=more.pop("labels"), **more)

    model.forward = types.MethodType(forward, model)


def _read(model: PreTrainedModel, labels_BS: Tensor, **given: Any) -> FusedCausalLMOutput:
    """Log-probabilities, zero where no label is; entropy is no curve of ours, and not computed."""
    hidden_BSD = model.base_model(**{**given, "use_cache": False}).last_hidden_state[:, :-1]
    asked_BS = labels_BS[:, 1:] != IGNORED
    found = log_probs_and_hits(model, hidden_BSD[asked_BS], labels_BS[:, 1:][asked_BS])
    log_probs_BS, hits_BS = (
        torch.zeros(asked_BS.shape, dtype=one.dtype).masked_scatter(asked_BS, one) for one in found
    )
    return FusedCausalLMOutput(
        log_probs=log_probs_BS,
        entropy=torch.full_like(log_probs_BS, torch.nan),
        is_top1=hits_BS,
        label_mask=asked_BS,
    )
