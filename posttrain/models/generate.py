"""Batched sampling from a causal language model: prompts in, responses out.

Our own decode loop, not `model.generate`: prompts of like length share a batch, sequences that have
ended leave it together with their rows of the KV cache, and the model's own generation config is
ignored, so that what is sampled is the plain softmax at a temperature (top_k 0, top_p 1, no minimum
length). Every draw is fixed by (seed, place in the list, position) before the first token is
computed: neither batch size nor padding nor torch's global state changes what is drawn.

Shapes: N prompts, B rows still in the batch, S prompt positions, T new tokens, V vocabulary.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from posttrain import processes
from posttrain.align.forward import like_lengths
from posttrain.cost import count_tokens
from posttrain.models import vllm
from posttrain.models.cache import all_roomy, joined_cache, roomy_cache
from posttrain.models.merged import merged
from posttrain.recipe.section import Section
from posttrain.runtime import Runtime

LEAVE_SHARE = 0.125
"""Share of ended rows at which they are taken out of the batch: each removal copies the cache."""


class Sampling(Section):
    """How responses are drawn."""

    max_new_tokens: PositiveInt
    """Longest response, in tokens, its end token included."""

    temperature: NonNegativeFloat
    """Divides the logits; 0 is greedy."""

    end_ids: tuple[int, ...] = Field(min_length=1)
    """Tokens that end a response."""

    pad_id: int
    """Fills the left of shorter prompts; masked, so any id of the vocabulary serves."""

    batch_size: PositiveInt
    """Prompts decoded side by side."""

    seed: int
    """Seed of every draw."""


def generate(
    model: PreTrainedModel | PeftModel, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> list[list[int]]:
    """Answer each prompt, in the order given; several processes share the prompts.

    Returns:
        The new tokens of each prompt, up to and including the first end token; a response without
        one was cut off at `max_new_tokens`.

    Raises:
        ValueError: a prompt is empty, a response to it could exceed the model's positions, or the
            runtime asks for vLLM and it is not installed or cannot hold this model.
    """
    check_lengths(model, prompts, sampling)
    ours = processes.share_of(len(prompts))
    if Runtime.from_environment().generator == "vllm":
        responses = vllm.generate(model, prompts[ours], sampling, ours.start)
    else:
        draws_NT = draws(len(prompts), sampling)
        responses = _answer(model, prompts[ours], draws_NT[ours], sampling)
    count_tokens("generated", sum(map(len, responses)))
    return processes.gathered(responses)


def draws(number: int, sampling: Sampling) -> Tensor:
    """A uniform number in [0, 1) for each prompt and position, (N, T), fixed by the seed alone."""
    generator = torch.Generator().manual_seed(sampling.seed)
    size = (number, sampling.max_new_tokens)
    return torch.rand(*size, generator=generator, dtype=torch.float64)


def _answer(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    draws_NT: Tensor,
    sampling: Sampling,
) -> list[list[int]]:
    """This process's prompts, those of like length side by side."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    responses: dict[int, list[int]] = {}
    with evaluating(model), merged(model):
        for start in range(0, len(order), sampling.batch_size):
            indices = order[start : start + sampling.batch_size]
            rows = [prompts[index] for index in indices]
            tokens_BT = _decode(model, rows, draws_NT[indices].to(model.device), sampling)
            cut = (cut_after_end(row, sampling.end_ids) for row in tokens_BT.tolist())
            responses.update(zip(indices, cut, strict=True))
    return [responses[index] for index in range(len(prompts))]


def cut_after_end(tokens: list[int], end_ids: Sequence[int]) -> list[int]:
    """The tokens up to and including the first end token; all where there is none."""
    for index, token in enumerate(tokens):
        if token in end_ids:
            return tokens[: index + 1]
    return tokens


def pad_left(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (B, S), of rows that end in the same column."""
    width = max(map(len, rows))
    ids_BS = [[pad_id] * (width - len(row)) + list(row) for row in rows]
    mask_BS = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids_BS, device=device), torch.tensor(mask_BS, device=device)


def positions(mask_BS: Tensor) -> Tensor:
    """Position ids from an attention mask: the first real token of a row is at 0."""
    return (mask_BS.cumsum(-1) - 1).clamp(min=0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) for a while; every module's own mode comes back."""
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def _decode(
    model: PreTrainedModel | PeftModel,
    rows: list[Sequence[int]],
    draws_BT: Tensor,
    sampling: Sampling,
) -> Tensor:
    """New tokens (B, T) of one batch; what follows a row's end token has no meaning."""
    tokens_BT = torch.full(draws_BT.shape, sampling.pad_id, device=model.device)
    for step, (kept_B, token_B) in enumerate(decode(model, rows, draws_BT, sampling)):
        tokens_BT[kept_B, step] = token_B
    return tokens_BT


def decode(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[Sequence[int]],
    draws_BT: Tensor,
    sampling: Sampling,
) -> Generator[tuple[Tensor, Tensor]]:
    """The decode loop: at each position, the places of the rows still decoded and their tokens.

    Between tokens the caller has its own grad mode.
    """
    _, mask_BS = pad_left(rows, sampling.pad_id, model.device)
    position_BS = positions(mask_BS)
    ends = torch.tensor(sampling.end_ids, device=model.device)
    kept_B = torch.arange(len(rows), device=model.device)
    ended_B = torch.zeros(len(rows), dtype=torch.bool, device=model.device)
    logits_BV, cache = _prefill(model, rows, sampling)
    for step in range(sampling.max_new_tokens):
        token_B = pick(logits_BV, draws_BT[kept_B, step], sampling.temperature)
        yield kept_B, token_B
        ended_B = ended_B | torch.isin(token_B, ends)
        num_ended = int(ended_B.sum())
        if num_ended == len(kept_B) or step + 1 == sampling.max_new_tokens:
            break
        position_BS = position_BS[:, -1:] + 1
        mask_BS = torch.cat([mask_BS, mask_BS.new_ones(len(kept_B), 1)], dim=-1)
        if num_ended >= LEAVE_SHARE * len(kept_B):
            stay = (~ended_B).nonzero().squeeze(-1)
            with torch.no_grad():
                cache.batch_select_indices(stay)
            kept_B, ended_B, mask_BS = kept_B[stay], ended_B[stay], mask_BS[stay]
            token_B, position_BS = token_B[stay], position_BS[stay]
        logits_BV = _next_logits(model, token_B[:, None], mask_BS, position_BS, cache)


def _prefill(
    model: PreTrainedModel | PeftModel, rows: Sequence[Sequence[int]], sampling: Sampling
) -> tuple[Tensor, DynamicCache]:
    """Logits after each prompt, and the cache of all; prompts of like length are read together.

    A batch is as wide as its longest prompt, which most others would be padded to.
    """
    config, device = model.config, model.device
    lengths = [len(row) for row in rows]
    capacity = max(lengths) + sampling.max_new_tokens

    def read(places: Sequence[int], room: int) -> tuple[Tensor, DynamicCache]:
        ids_BS, mask_BS = pad_left([rows[place] for place in places], sampling.pad_id, device)
        cache = roomy_cache(config, room)
        return _next_logits(model, ids_BS, mask_BS, positions(mask_BS), cache), cache

    groups = like_lengths(lengths, len(rows), device)
    if len(groups) == 1 or not all_roomy(config):  # a window's layer keeps no column of its own
        return read(range(len(rows)), capacity)
    found = [read(group, lengths[group[0]]) for group in groups]
    logits_BV = torch.cat([logits_GV for logits_GV, _ in found])
    order = torch.tensor([place for group in groups for place in group], device=device)
    parts = [(group, cache) for group, (_, cache) in zip(groups, found, strict=True)]
    return logits_BV[order.argsort()], joined_cache(config, capacity, parts)


@torch.no_grad()
def _next_logits(
    model: PreTrainedModel | PeftModel,
    ids_BS: Tensor,
    mask_BS: Tensor,
    position_BS: Tensor,
    cache: DynamicCache,
) -> Tensor:
    """Logits (B, V) of the token after the last; the cache grows by the tokens given."""
    logits_BV: Tensor = model(
        input_ids=ids_BS,
        attention_mask=mask_BS,
        position_ids=position_BS,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    return logits_BV


def pick(logits_BV: Tensor, draw_B: Tensor, temperature: float) -> Tensor:
    """One token a row: the most likely at temperature 0, else the inverse of the CDF at the draw.

    `draw_B` is uniform in [0, 1), in float64: float32's steps of 2^-24 would hide rare tokens.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    probs_BV = torch.softmax(logits_BV.float() / temperature, dim=-1)
    cdf_BV = probs_BV.cumsum(-1, dtype=torch.float64)
    # right: a token of probability zero adds nothing to the CDF and is stepped over
    target_B1 = (draw_B * cdf_BV[:, -1])[:, None]
    return (
        torch.searchsorted(cdf_BV, target_B1, right=True)
        .squeeze(-1)
        .clamp(max=cdf_BV.shape[-1] - 1)
    )


def check_lengths(
    model: PreTrainedModel | PeftModel, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> None:
    """Refuse prompts that leave no room for a response.

    Raises:
        ValueError: a prompt is empty, or a response to it could exceed the model's positions.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        empty = [index for index, prompt in enumerate(prompts) if not prompt]
        raise ValueError(f"prompts {empty[:5]} are empty: a response needs a token to follow")
    limit = model.config.get_text_config().max_position_embeddings
    longest = max(map(len, prompts), default=0)
    if longest + sampling.max_new_tokens > limit:
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens ({sampling.max_new_tokens}) exceed "
            f"the model's {limit} positions; shorten one of them"
        )
