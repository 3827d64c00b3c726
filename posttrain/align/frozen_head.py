"""Log-probabilities through an output layer that does not train, their gradient made on the way.

The gradient of a token's log-probability with regard to its hidden state needs the softmax over the
vocabulary, which stands there when the log-probability has been read. So it is taken then: the
logits of a chunk are made once, stay in the cache, and are gone; what waits for the backward pass
is as large as the hidden states.

Shapes: N tokens, C tokens of a chunk, D width, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from posttrain.models.device import computed_in, no_autocast

CHUNK = {"cpu": 2**20, "cuda": 2**25}
"""Logits at a time: 4 MiB of float32 stay in a CPU's cache; a GPU wants large products."""

PRECISIONS = (torch.float32, torch.bfloat16)
"""A sum over the vocabulary that is not divided yet could be beyond float16's range."""

MIN_TOKENS = 64
"""Of a chunk, whatever the vocabulary: smaller products are slow."""


def is_frozen(head: nn.Module, hidden_ND: Tensor) -> bool:
    """Whether the output layer is an ordinary one, frozen, in the precision that is computed in."""
    if type(head) is not nn.Linear or any(one.requires_grad for one in head.parameters()):
        return False
    whole = head.weight.shape == (head.out_features, head.in_features)  # else a shard of it
    return whole and head.weight.dtype == computed_in(hidden_ND) in PRECISIONS


def log_probs_and_hits(
    head: nn.Linear, hidden_ND: Tensor, token_N: Tensor, temperature: float, cap: float | None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each token, in float32, and whether no other is likelier.

    Args:
        head: the output layer, frozen.
        hidden_ND: what it reads.
        token_N: the tokens.
        temperature: divides the logits.
        cap: Gemma's soft cap on the logits, where there is one.
    """
    with no_autocast(hidden_ND):
        hidden_ND = hidden_ND.to(head.weight.dtype)
        found: tuple[Tensor, Tensor] = _LogProbs.apply(  # type: ignore[no-untyped-call]
            hidden_ND, token_N, head.weight, head.bias, temperature, cap
        )
    return found


@torch.no_grad()
def log_probs_and_entropies(
    head: nn.Linear, hidden_ND: Tensor, token_N: Tensor, temperature: float, cap: float | None
) -> tuple[Tensor, Tensor]:
    """The same log-probabilities, bit by bit, without gradients, and the entropy at each token."""
    log_prob_N, entropy_N = (hidden_ND.new_empty(len(token_N)).float() for _ in range(2))
    with no_autocast(hidden_ND):
        hidden_ND = hidden_ND.to(head.weight.dtype)
        for part in _chunks(hidden_ND, len(head.weight)):
            shifted_CV, _ = _read(hidden_ND[part], head.weight, head.bias, temperature, cap)
            own_C1 = shifted_CV.gather(-1, token_N[part, None])
            weight_CV = shifted_CV.exp()
            sum_C1 = weight_CV.sum(-1, keepdim=True)
            log_prob_N[part] = (own_C1 - sum_C1.log()).squeeze(-1)
            mean_C1 = weight_CV.mul_(shifted_CV).sum(-1, keepdim=True) / sum_C1
            entropy_N[part] = (sum_C1.log() - mean_C1).squeeze(-1)
    return log_prob_N, entropy_N


def chunk_size(vocabulary: int, on_cpu: bool) -> int:
    """Tokens whose logits are made at a time."""
    return max(MIN_TOKENS, CHUNK["cpu" if on_cpu else "cuda"] // vocabulary)


def _chunks(hidden_ND: Tensor, vocabulary: int) -> Iterator[slice]:
    size = chunk_size(vocabulary, hidden_ND.device.type == "cpu")
    return (slice(start, start + size) for start in range(0, len(hidden_ND), size))


def _read(
    hidden_CD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    temperature: float,
    cap: float | None,
) -> tuple[Tensor, Tensor | None]:
    """Scores (C, V) below the best one's, and where they are capped, their slope by the logit."""
    score_CV = functional.linear(hidden_CD, weight_VD, bias_V).float()
    steepness_CV = None
    if cap is not None:
        score_CV = torch.tanh(score_CV / cap)
        steepness_CV = 1 - score_CV.square()
        score_CV = score_CV.mul_(cap)
    if temperature != 1:
        score_CV = score_CV.div_(temperature)
    return score_CV.sub_(score_CV.amax(-1, keepdim=True)), steepness_CV


class _LogProbs(torch.autograd.Function):
    """log softmax(logits / temperature) at each token; the logits are capped before."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        token_N: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        temperature: float,
        cap: float | None,
    ) -> tuple[Tensor, Tensor]:
        log_prob_N = hidden_ND.new_empty(len(token_N)).float()
        hit_N = torch.empty_like(token_N, dtype=torch.bool)
        slope_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for part in _chunks(hidden_ND, len(weight_VD)):
            token_C1 = token_N[part, None]
            shifted_CV, steepness_CV = _read(hidden_ND[part], weight_VD, bias_V, temperature, cap)
            own_C1 = shifted_CV.gather(-1, token_C1)
            weight_CV = shifted_CV.exp_()  # not yet divided by their sum
            sum_C1 = weight_CV.sum(-1, keepdim=True)
            log_prob_N[part] = (own_C1 - sum_C1.log()).squeeze(-1)
            hit_N[part] = (own_C1 >= 0).squeeze(-1)
            if slope_ND is None:
                continue
            # of the token's own logit, less the mean under the softmax
            own_CD = weight_VD[token_N[part]].float()
            if steepness_CV is not None:
                weight_CV = weight_CV.mul_(steepness_CV)
                own_CD = own_CD * steepness_CV.gather(-1, token_C1)
            mean_CD = (weight_CV.to(weight_VD.dtype) @ weight_VD).float() / sum_C1
            slope_ND[part] = (own_CD - mean_CD) / temperature
        ctx.mark_non_differentiable(hit_N)
        ctx.save_for_backward(slope_ND)
        return log_prob_N, hit_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slope_ND,) = ctx.saved_tensors
        return slope_ND * grads[0][:, None].to(slope_ND.dtype), None, None, None, None, None
