"""Rows of the tokens artifact as the alignment stages want them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import Tokens
from posttrain.data.chat import Message, end_tokens
from posttrain.facts import Role
from posttrain.models.generate import Sampling, cut_after_end
from posttrain.recipe.answering import Answering
from posttrain.recipe.self_critique import SelfCritiqueRecipe


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, each cut after its first end token, as PPO's responses are."""

    kind: str | None
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    margin: float
    label: float = 1.0
    """Probability that the chosen side is the preferred one; below 1 where a judge is not sure."""

    id: str = ""
    """Of the row; empty where it only fills a batch up."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, as messages and as ids that end where the assistant begins to speak."""

    id: str
    kind: str | None
    group: str
    messages: list[Message]
    ids: list[int]


def read_pairs(tokens: Tokens, split: str, ends: Sequence[int]) -> tuple[list[Pair], int]:
    """Preference pairs of one split, and how many were dropped because both sides are the same.

    Raises:
        ValueError: the run has no preferences, the split is empty, or a response has no end token.
    """
    return as_pairs(read(tokens, "preferences", split=split), ends, tokens.path)


def as_pairs(
    rows: Sequence[Mapping[str, Any]], ends: Sequence[int], holder: Path
) -> tuple[list[Pair], int]:
    """Rows of ids as pairs, and how many were dropped because both sides are the same."""
    pairs = [
        Pair(
            kind=row["kind"],
            prompt=row["prompt_ids"],
            chosen=cut_after_end(row["chosen_ids"], ends),
            rejected=cut_after_end(row["rejected_ids"], ends),
            margin=row["margin"] or 0.0,
            label=row.get("label", 1.0),
            id=row["id"],
        )
        for row in rows
    ]
    endless = sum(pair.chosen[-1] not in ends for pair in pairs)
    if endless:
        raise ValueError(
            f"{holder}: {endless} of {len(pairs)} chosen responses have no end token (one of "
            f"{tuple(ends)}); the chat template must put it into the assistant's turn"
        )
    kept = [pair for pair in pairs if pair.chosen != pair.rejected]
    return kept, len(pairs) - len(kept)


def read_prompts(tokens: Tokens, name: str) -> list[Prompt]:
    """The prompts whose `set` is `name`, in the file's order.

    Raises:
        ValueError: there are none; the message names the sets that exist.
    """
    return [
        Prompt(row["id"], row["kind"], row["group"], row["messages"], row["prompt_ids"])
        for row in read(tokens, "prompts", set=name)
    ]


def read(tokens: Tokens, role: Role, **wanted: str) -> list[dict[str, Any]]:
    """Rows of a role whose columns equal what is wanted.

    Raises:
        ValueError: the run has no such role, or no such row.
    """
    file = tokens.path / f"{role}.parquet"
    if not file.exists():
        raise ValueError(f"{tokens.path}: the run has no {role}; name ingest.{role}")
    filters = [(column, "==", value) for column, value in wanted.items()]
    rows: list[dict[str, Any]] = pq.read_table(file, filters=filters or None).to_pylist()
    if not rows:
        columns = list(wanted)
        found = pq.read_table(file, columns=columns).group_by(columns).aggregate([]).to_pylist()
        raise ValueError(f"{file}: no row has {wanted} (found: {found[:8]})")
    return rows


def pad_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """What fills a batch; masks come from lengths, so the end token serves where none is set."""
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return int(pad)


def sampling_by(
    tokenizer: PreTrainedTokenizerFast, recipe: Answering | SelfCritiqueRecipe
) -> Sampling:
    """How a section's answers are drawn, with the template's own end tokens."""
    return Sampling(
        max_new_tokens=recipe.max_new_tokens,
        temperature=recipe.temperature,
        end_ids=end_tokens(tokenizer),
        pad_id=pad_id(tokenizer),
        batch_size=recipe.generation_batch_size,
        seed=recipe.seed,
    )
