"""What the meta device says is kept, against what autograd keeps of real tensors on the CPU.

The ratios are of this machine's CPU. On a GPU nobody has measured them.
"""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast

from posttrain.models.activations import ATTENTION, Kept, kept, precision
from posttrain.models.adapters import new_adapter
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe
from tests.architectures import NAMES, config

ROWS, LENGTH = 2, 48
ADAPTERS = (
    None,
    LoraRecipe(rank=4),
    LoraRecipe(rank=4, dropout=0.1, target_modules="all-linear"),
    BottleneckRecipe(size=8),
)


def of_pass(
    sizes: PreTrainedConfig,
    device: str,
    adapter: LoraRecipe | BottleneckRecipe | None,
    compute: torch.dtype,
) -> Kept:
    """A training pass with a loss: on the meta device as estimated, on the CPU as it is."""
    on_meta = device == "meta"
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(
            sizes,
            dtype=torch.float32 if adapter is None else compute,
            attn_implementation=ATTENTION if on_meta else "sdpa",
        )
        if adapter is not None:
            model.requires_grad_(False)
            model = new_adapter(model, adapter)
        ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        mask = torch.ones(ROWS, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    model.train()

    def run() -> Any:
        return model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False).loss

    if on_meta:
        with precision(compute):
            return kept(model, run)
    with torch.autocast("cpu", torch.bfloat16, enabled=compute == torch.bfloat16):
        return kept(model, run)


def without_dropout(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    sizes = config(name, tokenizer)
    if name == "gpt2":
        sizes.attn_pdrop = 0.0
    return sizes


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_what_a_cpu_keeps(
    name: str,
    adapter: LoraRecipe | BottleneckRecipe | None,
    compute: torch.dtype,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    sizes = without_dropout(name, tokenizer)
    meta, real = (of_pass(sizes, device, adapter, compute) for device in ("meta", "cpu"))
    # counted as on CUDA, where autocast takes layer norms to float32 and that of a CPU does not
    norms_differ = name == "gpt2" and adapter is not None and compute == torch.bfloat16
    most = 1.09 if norms_differ else 1.0
    assert 1.0 <= meta.whole / real.whole <= most
    assert 1.0 <= meta.checkpointed / real.checkpointed <= most


def test_dropout_in_attention_takes_more_on_a_cpu_than_is_counted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """A CPU has no fused kernel with dropout, and keeps matrices of T x T; GPUs have one."""
    sizes = config("gpt2", tokenizer)
    assert sizes.attn_pdrop > 0
    meta, real = (of_pass(sizes, device, None, torch.float32) for device in ("meta", "cpu"))
    assert 0.7 <= meta.whole / real.whole <= 0.95


def test_checkpointing_leaves_the_inputs_and_one_block() -> None:
    found = Kept(blocks=[5, 7, 6], inputs=3, outside=10)
    assert (found.whole, found.checkpointed) == (28, 20)


def test_weights_are_not_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    sizes = without_dropout("llama", tokenizer)
    small = of_pass(sizes, "meta", None, torch.float32)
    sizes.intermediate_size *= 2
    wide = of_pass(sizes, "meta", None, torch.float32)
    added = sizes.intermediate_size // 2 * ROWS * LENGTH * torch.float32.itemsize
    # gate, its activation, up and their product
    assert wide.blocks[0] - small.blocks[0] == 4 * added
