"""Causal language models of random weights, 32 wide, a family each; no file, no tokenizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

FAMILIES = ("llama", "gemma3", "gpt2", "qwen3")
SHARED = {
    "vocab_size": 300,
    "initializer_range": 0.3,  # wide: near-uniform logits would hide a wrong mask
    "bos_token_id": None,
    "eos_token_id": None,
}
SIZES = {
    **SHARED,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 96,
}


def tiny(family: str) -> PreTrainedModel:
    """The same weights each time, ready to read."""
    torch.manual_seed(0)
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SIZES)).eval()
    if family == "gemma3":  # its window is shorter than the longest text of every test
        layers = ["sliding_attention", "full_attention"]
        config = Gemma3TextConfig(
            **SIZES, sliding_window=4, layer_types=layers, final_logit_softcapping=3.0
        )
        return Gemma3ForCausalLM(config).eval()
    config = GPT2Config(**SHARED, n_embd=32, n_layer=2, n_head=4, n_positions=96)
    return GPT2LMHeadModel(config).eval()


def sharded(layers: Iterable[nn.Linear]) -> None:
    """As ZeRO-3 does: a weight is there while its own layer's forward runs."""
    for layer in layers:
        whole = layer.weight.data
        layer.weight.data = whole.new_empty(0)

        def gather(module: nn.Linear, *_: Any, whole: Tensor = whole) -> None:
            module.weight.data = whole

        def release(module: nn.Linear, *_: Any) -> None:
            module.weight.data = module.weight.data.new_empty(0)

        layer.register_forward_pre_hook(gather)
        layer.register_forward_hook(release)
