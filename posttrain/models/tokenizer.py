"""Tokenizers: load one, train one, hash one."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.hashes import sha256_of
from posttrain.models.code import NO_CODE

PAD, END, USER, ASSISTANT, SYSTEM = "<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"

DEFAULT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Chat template of the tokenizers that we train."""


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (Sennrich et al. 2016; Radford et al. 2019) on `texts`.

    The end-of-turn token is the document's end token: Base FT teaches what SFT relies on.
    """
    tokenizer = Tokenizer(models.BPE())
    # A prefix space: else the first word of an answer is another token than in running text, and
    # an adapter over frozen tied embeddings cannot learn to emit it.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, END, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=DEFAULT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def with_system(template: str, system: str) -> str:
    """The template with a system message of its own for conversations that bring none."""
    opening = json.dumps([{"role": "system", "content": system}], ensure_ascii=False)
    return (
        "{%- if messages[0]['role'] != 'system' -%}"
        f"{{%- set messages = {opening} + messages -%}}"
        "{%- endif -%}" + template
    )


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerFast:
    """The base's tokenizer, with the chat template that the run resolved."""
    return read_tokenizer(base.path / "tokenizer")


def read_tokenizer(
    source: str | Path, revision: str | None = None, code: Mapping[str, Any] = NO_CODE
) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a folder or the hub; `code` is what `code_of` says of its code.

    Raises:
        ValueError: it has no fast implementation, or no end token.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(source), revision=revision or "main", **code)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(
            f"{source}: its tokenizer is {type(tokenizer).__name__}, which gives no character "
            "offsets; use a model with a tokenizer.json"
        )
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{source}: its tokenizer has no end-of-sequence token")
    return tokenizer


def plain_texts(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Sequence[int]]) -> list[str]:
    """The texts behind token ids, equal for every tokenizer that loses nothing."""
    decoded: list[str] = tokenizer.batch_decode(
        [list(row) for row in rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [text.lstrip(" ") for text in decoded]  # some tokenizers put a space before a text


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of what maps text to ids: the serialised tokenizer and its special tokens."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend.pop("padding", None)  # set and unset by calls; no part of the mapping
    backend.pop("truncation", None)
    return sha256_of([backend, tokenizer.special_tokens_map])


def template_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of the chat template."""
    return sha256_of(tokenizer.get_chat_template())
