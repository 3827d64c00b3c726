"""What the rows run on: a model of 5 million parameters and random weights, texts of 53 tokens.

Speed does not depend on what weights say, so none are trained. Texts are words made up of
syllables, for a tokenizer of the model's whole vocabulary; lengths spread as those of short
documents do (log-normal, mean 53, at most `max_length`), so that padding to 512 would fill 0.1.
"""

import math
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.harness import Bench
from posttrain.artifacts import BaseModel, Tokens
from posttrain.facts import Reference, TokensFacts
from posttrain.models.seal import seal
from posttrain.models.tokenizer import template_hash, tokenizer_hash, train_tokenizer

SEED = 0
VOCABULARY = 4_096
MEAN_LENGTH = 53
SPREAD = 0.6
"""Standard deviation of the logarithm of a length."""

MAX_LENGTH = 512
SHAPE: dict[str, int] = {
    "hidden_size": 256,
    "intermediate_size": 1_024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1_024,
}
"""Five million parameters with a tied vocabulary of 4,096."""

TINY = {**SHAPE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
RESERVED = 5
"""Special tokens, which no text holds."""


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer over made-up words, its vocabulary full."""
    chance = random.Random(SEED)
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(9_000)]
    made = train_tokenizer([" ".join(words)] * 3, VOCABULARY)
    assert len(made) == VOCABULARY
    return made


def make_base(bench: Bench) -> BaseModel:
    """The base of a row."""
    folder = bench.folder / "base"
    ours = tokenizer()
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(ours),
        pad_token_id=ours.pad_token_id,
        eos_token_id=ours.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=0.1,  # logits that differ: with less every token is about as likely
        **(TINY if bench.quick else SHAPE),
    )
    LlamaForCausalLM(config).save_pretrained(folder / "weights")
    reference = Reference(kind="own", source="weights")
    return seal(folder, "base_finetune", reference, folder / "weights", ours, has_delta=False)


def lengths(number: int, mean: float = MEAN_LENGTH, seed: int = SEED) -> list[int]:
    """Lengths of texts: log-normal, at least 8 tokens, at most `MAX_LENGTH`."""
    chance = random.Random(seed)
    middle = math.log(mean) - SPREAD**2 / 2
    drawn = (round(chance.lognormvariate(middle, SPREAD)) for _ in range(number))
    return [min(max(8, length), MAX_LENGTH) for length in drawn]


def texts(of_lengths: Sequence[int], seed: int = SEED) -> list[list[int]]:
    """Ids of ordinary tokens."""
    chance = random.Random(seed + 1)
    return [chance.choices(range(RESERVED, VOCABULARY), k=length) for length in of_lengths]


def make_tokens(folder: Path, **roles: Sequence[dict[str, Any]]) -> Tokens:
    """An artifact of the rows that are given, by role."""
    folder.mkdir(parents=True)
    for role, rows in roles.items():
        pq.write_table(pa.Table.from_pylist(list(rows)), folder / f"{role}.parquet")
    ours = tokenizer()
    facts = TokensFacts(
        tokenizer_hash=tokenizer_hash(ours),
        template_hash=template_hash(ours),
        max_length=MAX_LENGTH,
        block_size=MAX_LENGTH,
        counts={},
        data_hashes={},
    )
    return Tokens.write(folder, "tokenize", facts)


def conversations(ids: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Rows of instructions whose every token is learned, as a tutorial's labels have it."""
    return [
        {
            "id": f"i{number}",
            "split": "train",
            "kind": "k",
            "input_ids": list(row),
            "assistant_mask": [True] * len(row),
        }
        for number, row in enumerate(ids)
    ]
