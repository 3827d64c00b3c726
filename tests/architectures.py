"""Tiny bases of random weights, one of each architecture whose blocks are named differently."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from posttrain.artifacts import BaseModel
from posttrain.facts import Reference
from posttrain.models.seal import seal

WIDTH = 64  # a block of NF4
NAMES = ("llama", "gemma3", "qwen3", "gpt2")


def config(name: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> PreTrainedConfig:
    """Two blocks, 64 wide, 256 positions, tied embeddings, unless changed."""
    shared = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "initializer_range": 0.1,
    }
    if name == "gpt2":
        sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 256}
        return GPT2Config(**shared | sizes | changes)
    kind = {"llama": LlamaConfig, "gemma3": Gemma3TextConfig, "qwen3": Qwen3Config}[name]
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }
    return kind(**shared | sizes | changes)


def make_base(name: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> BaseModel:
    """A base whose weights lie in the artifact."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    model = AutoModelForCausalLM.from_config(config(name, tokenizer))
    model.save_pretrained(folder / "weights")
    reference = Reference(kind="own", source="weights")
    return seal(folder, "base_model", reference, folder / "weights", tokenizer, has_delta=False)
