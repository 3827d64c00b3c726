"""What alignment asks of a model: last hidden states, and log-probabilities read from them.

Sequences stand right-padded in batches of like lengths. The output layer sees real response tokens
only, a chunk at a time: no tensor of batch x positions x vocabulary is ever made.

Shapes: B sequences, S positions (prompt and response), N real response tokens of a batch (flat, row
by row), D width, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from posttrain.align import frozen_head
from posttrain.align.losses import entropies, token_log_probs

MAX_LOGITS = 2**25
"""Logits in memory at a time (128 MiB in float32), but for a plain, frozen output layer."""

PASS_TOKENS = {"cpu": 32, "cuda": 2_048}
"""Tokens' worth of a pass's fixed cost. Measured on a CPU with 5 million parameters."""

HEAD_TOLERANCE = 0.02  # bfloat16's rounding; a forgotten soft cap or scale is off by far more


@dataclass(frozen=True)
class Batch:
    """Prompts and their responses as one right-padded rectangle."""

    ids_BS: Tensor
    predicts_BS: Tensor
    """True at positions whose next token is a token of the response."""

    @property
    def token_N(self) -> Tensor:
        """The response tokens, in the order of `hidden[predicts_BS]`."""
        return self.ids_BS[:, 1:][self.predicts_BS[:, :-1]]


def collate(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    pad_id: int,
    device: torch.device,
) -> Batch:
    """Pad on the right: a row is prompt and response without a gap, its position ids from 0."""
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    ids_BS, _ = pad_right(rows, pad_id, device)
    start_B1 = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=device)
    end_B1 = torch.tensor([[len(row) - 1] for row in rows], device=device)
    position_S = torch.arange(ids_BS.shape[1], device=device)
    return Batch(ids_BS, (position_S >= start_B1) & (position_S < end_B1))


def pad_right(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (B, S), of rows that begin in the first column."""
    width = max(map(len, rows))
    ids_BS = [[*row, *[pad_id] * (width - len(row))] for row in rows]
    mask_BS = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids_BS, device=device), torch.tensor(mask_BS, device=device)


def like_lengths(lengths: Sequence[int], size: int, device: torch.device) -> list[list[int]]:
    """Indices in batches of at most `size`, longest first, in as little time as may be.

    Of all ways to cut the sorted lengths, the one with the least padding and passes together: a
    pass costs as much as `PASS_TOKENS` tokens, so it is worth saving where padding costs less.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    a_pass = PASS_TOKENS[device.type]
    costs = [0]  # of the first so many
    starts = [0]  # of the last batch among them
    for end in range(1, len(order) + 1):
        tried = range(max(0, end - size), end)
        cost, start = min((costs[at] + (end - at) * lengths[order[at]], at) for at in tried)
        costs.append(cost + a_pass)
        starts.append(start)
    batches = []
    end = len(order)
    while end:
        batches.append(order[starts[end] : end])
        end = starts[end]
    return batches[::-1]


def hidden_states(model: PreTrainedModel | PeftModel, ids_BS: Tensor) -> Tensor:
    """Last hidden states (B, S, D), after the final norm, under the active adapter.

    Padding stands on the right, where no real token looks: no mask is needed, and without one
    attention is causal by its kernel. What stands at padding has no meaning.
    """
    output = causal(model).base_model(input_ids=ids_BS, use_cache=False)
    hidden_BSD: Tensor = output.last_hidden_state
    return hidden_BSD


def log_probs(
    model: PreTrainedModel | PeftModel, hidden_ND: Tensor, token_N: Tensor, temperature: float
) -> Tensor:
    """Log-probability of each token, in float32, chunk by chunk."""
    return log_probs_and_hits(model, hidden_ND, token_N, temperature)[0]


def log_probs_and_hits(
    model: PreTrainedModel | PeftModel,
    hidden_ND: Tensor,
    token_N: Tensor,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The same, and of each token whether no other is likelier.

    Where the output layer trains and there are several chunks, the backward pass computes each
    one's logits again.
    """
    owner = causal(model)
    head = owner.get_output_embeddings()
    if frozen_head.is_frozen(head, hidden_ND):
        cap = soft_cap(owner)
        return frozen_head.log_probs_and_hits(head, hidden_ND, token_N, temperature, cap)

    def of_chunk(hidden_CD: Tensor, token_C: Tensor) -> tuple[Tensor, ...]:
        logits_CV = logits(owner, hidden_CD)
        with torch.no_grad():
            hit_C = logits_CV.gather(-1, token_C[:, None]).squeeze(-1) >= logits_CV.amax(-1)
        return token_log_probs(logits_CV, token_C, temperature), hit_C

    size = _chunk_size(owner)
    if len(token_N) <= size:
        log_prob_N, hit_N = of_chunk(hidden_ND, token_N)
        return log_prob_N, hit_N
    chunks = zip(hidden_ND.split(size), token_N.split(size), strict=True)
    parts = [checkpoint(of_chunk, *chunk, use_reentrant=False) for chunk in chunks]
    log_prob_N, hit_N = (torch.cat(part) for part in zip(*parts, strict=True))
    return log_prob_N, hit_N


@torch.no_grad()
def log_probs_and_entropies(
    model: PreTrainedModel | PeftModel, hidden_ND: Tensor, token_N: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The same without gradients, and the entropy at each token's position."""
    owner = causal(model)
    head = owner.get_output_embeddings()
    if frozen_head.is_frozen(head, hidden_ND):
        cap = soft_cap(owner)
        return frozen_head.log_probs_and_entropies(head, hidden_ND, token_N, temperature, cap)
    size = _chunk_size(owner)
    parts = []
    for hidden_CD, token_C in zip(hidden_ND.split(size), token_N.split(size), strict=True):
        logits_CV = logits(owner, hidden_CD)
        log_prob_C = token_log_probs(logits_CV, token_C, temperature)
        parts.append((log_prob_C, entropies(logits_CV, temperature)))
    log_prob_N, entropy_N = (torch.cat(part) for part in zip(*parts, strict=True))
    return log_prob_N, entropy_N


def _chunk_size(owner: PreTrainedModel) -> int:
    vocabulary: int = owner.config.get_text_config().vocab_size
    return max(1, MAX_LOGITS // vocabulary)


def logits(model: PreTrainedModel, hidden_ND: Tensor) -> Tensor:
    """The output layer, with Gemma's soft cap where the model has one."""
    logits_NV: Tensor = model.get_output_embeddings()(hidden_ND)
    cap = soft_cap(model)
    return logits_NV if cap is None else cap * torch.tanh(logits_NV / cap)


def soft_cap(model: PreTrainedModel) -> float | None:
    """Gemma's bound on its logits."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


@torch.no_grad()
def check_head(model: PreTrainedModel | PeftModel) -> None:
    """Compare our way to the logits with the model's own.

    Raises:
        ValueError: the architecture does to its logits what `logits` does not know of.
    """
    owner = causal(model)
    ids = torch.arange(2, 6, device=owner.device)[None]
    ours = logits(owner, hidden_states(owner, ids)).float()
    theirs = owner(input_ids=ids, use_cache=False).logits.float()
    gap = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))
    if gap > HEAD_TOLERANCE:
        raise ValueError(
            f"{type(owner).__name__}: its logits differ by {gap:.1%} from those of its output "
            "layer; how it scales them is not known here: teach posttrain.align.forward.logits"
        )


def causal(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model with its output layer, without PEFT's wrapper (its layers stay adapted)."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


@contextmanager
def using(model: PeftModel, name: str, trainable: bool = False) -> Iterator[None]:
    """Make one adapter the active one for a while; no other adapter is trainable meanwhile."""
    before = model.active_adapter
    model.set_adapter(name, inference_mode=not trainable)
    try:
        yield
    finally:
        model.set_adapter(before, inference_mode=True)
