"""What the GPU benchmark runs on: models of real shapes and random weights, rows of random ids."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from posttrain.align.judge import REWARD, new_judge
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts, Reference, RewardModelFacts, TokensFacts
from posttrain.models.adapters import adapter_weights, save_adapter
from posttrain.models.device import device, kernels
from posttrain.models.quantize import quantization_of
from posttrain.models.seal import seal
from posttrain.models.tokenizer import template_hash, tokenizer_hash, train_tokenizer
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.runtime import Runtime
from posttrain.train import sft

KINDS: dict[str, type[PreTrainedConfig]] = {"gemma3_text": Gemma3TextConfig, "llama": LlamaConfig}

SHAPES: dict[str, dict[str, Any]] = {
    "gemma-3-1b": {
        "model_type": "gemma3_text",
        "vocab_size": 262_144,
        "hidden_size": 1_152,
        "intermediate_size": 6_912,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "sliding_window": 512,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": True,
    },
    "llama-3-8b": {
        "model_type": "llama",
        "vocab_size": 128_256,
        "hidden_size": 4_096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8_192,
        "tie_word_embeddings": False,
    },
}
"""Like google/gemma-3-1b-it and meta-llama/Meta-Llama-3-8B."""

TINY: dict[str, dict[str, Any]] = {
    f"{name}-tiny": {
        **shape,
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
    }
    for name, shape in SHAPES.items()
}
"""The same families, for a CPU."""


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that leaves most of a shape's vocabulary unused: sizes count, not texts."""
    return train_tokenizer(["what colour is it ? it is red indeed ."] * 20, 300)


def make_base(shape: dict[str, Any], folder: Path) -> BaseModel:
    """A base of random weights, made on the device at its precision."""
    sizes = {name: value for name, value in shape.items() if name != "model_type"}
    ours = tokenizer()
    ends = {
        "pad_token_id": ours.pad_token_id,
        "eos_token_id": ours.eos_token_id,
        "bos_token_id": None,
    }
    config = KINDS[shape["model_type"]](**sizes, **ends)
    runtime = Runtime.from_environment()
    torch.manual_seed(0)
    with torch.device(device(runtime)):
        precision = kernels(runtime, shape["model_type"]).dtype
        model = AutoModelForCausalLM.from_config(config, dtype=precision)
    model.save_pretrained(folder / "weights")
    reference = Reference(kind="own", source="weights")
    return seal(folder, "base_model", reference, folder / "weights", ours, has_delta=False)


def make_tokens(folder: Path, num_rows: int, length: int, num_prompts: int) -> Tokens:
    """Conversations and prompts that are all as long as they may be: what the estimate assumes."""
    folder.mkdir()
    ours, chance = tokenizer(), random.Random(0)

    def ids() -> list[int]:
        return chance.choices(range(20, len(ours)), k=length)

    conversations = [
        {"id": f"i{i}", "split": "train", "input_ids": ids(), "assistant_mask": [True] * length}
        for i in range(num_rows)
    ]
    prompts = [
        {"id": f"q{i}", "kind": "k", "group": "g", "set": name, "messages": [], "prompt_ids": ids()}
        for name in ("rollout", "held_out")
        for i in range(num_prompts)
    ]
    _write(folder / "instructions.parquet", conversations)
    _write(folder / "prompts.parquet", prompts)
    facts = TokensFacts(
        tokenizer_hash=tokenizer_hash(ours),
        template_hash=template_hash(ours),
        max_length=length,
        block_size=length,
        counts={},
        data_hashes={},
    )
    return Tokens.write(folder, "tokenize", facts)


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), file)


def make_assistant(base: BaseModel, recipe: SftRecipe, folder: Path) -> Policy:
    """SFT's policy as it would be before its first step."""
    model = sft.to_train(base, recipe)
    quantization = quantization_of(model)
    save_adapter(model, sft.ADAPTER, folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method=recipe.method,
        quantization=quantization,
        num_trainable=sum(one.numel() for one in adapter_weights(model, sft.ADAPTER).values()),
        num_adapted_modules=0,
        recipe=recipe.model_dump(),
        figures={},
    )
    return Policy.write(folder, "sft", facts)


def make_reward(
    base: BaseModel, assistant: Policy, recipe: RewardModelRecipe, folder: Path
) -> RewardModel:
    """A reward model that tells answers apart, at random."""
    judge = new_judge(base, assistant, recipe)
    assert REWARD in judge.model.peft_config
    torch.nn.init.normal_(judge.head.linear.weight)
    folder.mkdir()
    judge.save(folder)
    known = assistant.facts.model_dump()
    scored = {"score_mean": 0.0, "score_std": 1.0, "accuracy": 0.5, "by_kind": {}, "num_pairs": 1}
    return RewardModel.write(folder, "reward_model", RewardModelFacts(**known, **scored))
