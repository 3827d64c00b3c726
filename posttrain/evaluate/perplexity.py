"""Perplexity: exp(sum of token losses / scored tokens), whatever the batch.

Not the mean of batch means. Each scored token has as much context as window and stride leave it,
and is scored once. Padding is never scored.

A token is another unit under another tokenizer: bits per byte compares there.

Shapes: B sequences, T positions, V vocabulary, K chunk of positions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.align.forward import causal, check_head, hidden_states, like_lengths, logits
from posttrain.evaluate import bootstrap
from posttrain.figures import Figure, Items
from posttrain.models.tokenizer import plain_texts
from posttrain.recipe.evaluation import EvaluationRecipe

T = TypeVar("T")
MAX_LOGITS = 2**28
"""Logits in memory at a time (1 GiB in float32): 8,192 tokens of 262,144 entries would be 8."""


@dataclass(frozen=True)
class Scored:
    """Token ids and which of them count. The first is context: nothing predicts it."""

    input_ids: list[int]
    counts: list[bool]


@dataclass(frozen=True)
class _Window:
    source: int
    input_ids: list[int]
    counts: list[bool]


def perplexity(model: PreTrainedModel, texts: Sequence[Scored], recipe: EvaluationRecipe) -> Figure:
    """Token-weighted perplexity of `texts`, with an interval resampled by text.

    Args:
        model: a causal language model.
        texts: sequences; at least one position of them counts.
        recipe: window and stride in tokens, batch size in windows, bootstrap resamples.

    Raises:
        ValueError: no position counts, or the model scales its logits in a way that we don't know.
    """
    return of_tokens(text_losses(model, texts, recipe), texts, recipe)


def text_losses(
    model: PreTrainedModel, texts: Sequence[Scored], recipe: EvaluationRecipe
) -> list[float]:
    """Sum of the losses of each text's scored tokens, in nats."""
    losses = [0.0] * len(texts)
    check_head(model)
    windows = [one for i, text in enumerate(texts) for one in _windows(i, text, recipe)]
    lengths = [len(one.input_ids) for one in windows]
    for indices in like_lengths(lengths, recipe.batch_size, model.device):
        batch = [windows[index] for index in indices]
        for one, loss in zip(batch, _losses(model, batch), strict=True):
            losses[one.source] += loss
    return losses


def of_tokens(losses: Sequence[float], texts: Sequence[Scored], recipe: EvaluationRecipe) -> Figure:
    """Perplexity from the losses of `texts`."""
    return bootstrap.of_items(token_items(losses, texts), recipe.num_bootstrap, recipe.seed)


def token_items(losses: Sequence[float], texts: Sequence[Scored]) -> Items:
    """Loss and scored tokens of each text that has any: what perplexity is made of."""
    numbers = [sum(text.counts[1:]) for text in texts]
    kept = [i for i, number in enumerate(numbers) if number]
    return bootstrap.items([losses[i] for i in kept], [numbers[i] for i in kept], is_log=True)


def byte_items(
    losses: Sequence[float], texts: Sequence[Scored], tokenizer: PreTrainedTokenizerFast
) -> Items:
    """Bits, and bytes in UTF-8, of each text that has any.

    What an end token costs counts, as the end is predicted too; bytes it has none.
    """
    scored = [
        [token for token, on in zip(text.input_ids[1:], text.counts[1:], strict=True) if on]
        for text in texts
    ]
    sizes = [len(text.encode()) for text in plain_texts(tokenizer, scored)]
    kept = [i for i, size in enumerate(sizes) if size]
    return bootstrap.items([losses[i] / math.log(2) for i in kept], [sizes[i] for i in kept])


def _windows(source: int, text: Scored, recipe: EvaluationRecipe) -> Iterator[_Window]:
    """Overlapping windows that together score each token once."""
    scored_up_to = 1
    start = 0
    while scored_up_to < len(text.input_ids):
        end = min(start + recipe.window, len(text.input_ids))
        counts = [
            position >= scored_up_to and text.counts[position] for position in range(start, end)
        ]
        yield _Window(source, text.input_ids[start:end], counts)
        scored_up_to = end
        start = max(0, min(end + recipe.stride, len(text.input_ids)) - recipe.window)


@torch.inference_mode()
def _losses(model: PreTrainedModel, batch: Sequence[_Window]) -> list[float]:
    """Sum of the losses of each window's counted tokens, in nats."""
    longest = max(len(one.input_ids) for one in batch)
    # right-padded: under causal attention nothing real sees what follows it
    ids_BT = torch.tensor([_padded(one.input_ids, longest, 0) for one in batch])
    counts_BT = torch.tensor([_padded(one.counts, longest, False) for one in batch])
    ids_BT, counts_BT = ids_BT.to(model.device), counts_BT.to(model.device)
    hidden_BTD = hidden_states(model, ids_BT)
    losses_BT = torch.zeros(ids_BT.shape, dtype=torch.float64, device=model.device)
    picked = counts_BT[:, 1:].nonzero()
    size = max(1, MAX_LOGITS // causal(model).config.get_text_config().vocab_size)
    for chunk in picked.split(size):
        rows, columns = chunk.unbind(1)
        logits_KV = logits(causal(model), hidden_BTD[rows, columns]).float()
        targets_K = ids_BT[rows, columns + 1]
        losses_K = torch.nn.functional.cross_entropy(logits_KV, targets_K, reduction="none")
        losses_BT[rows, columns + 1] = losses_K.double()
    return [float(loss) for loss in losses_BT.sum(1)]


def _padded(values: list[T], length: int, filler: T) -> list[T]:
    return values + [filler] * (length - len(values))
