"""Bases in 4 bits for QLoRA (Dettmers et al. 2023): how they are loaded, and recognised.

NF4 weights live in memory alone. Artifacts hold 16 bits or more, and adapters stay in float32.
"""

import math

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from transformers import BitsAndBytesConfig, PreTrainedModel

from posttrain.recipe.train import QuantizationRecipe

BLOCK, NESTED_BLOCK, CODE = 64, 256, 16
"""NF4: weights a scale, scales a scale of scales, values of the code (Dettmers et al. 2023)."""

FLOAT = 4
"""Bytes of a float32, in which scales and codes are; adapters, gradients and moments too."""


def nf4(recipe: QuantizationRecipe, compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """Every linear layer but the output layer; embeddings and norms keep their precision."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=recipe.double_quantization,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def nf4_bytes(num_weights: int, quantization: QuantizationRecipe) -> int:
    """Bytes of one layer's weights in 4 bits, its scales and codes included.

    Dettmers et al. 2023, section 3: a scale for 64 weights, in float32; with double quantisation in
    8 bits, with a scale in float32 for 256 of them, a code of 256 values, and an offset.
    """
    scales = math.ceil(num_weights / BLOCK)
    size = math.ceil(num_weights / 2) + CODE * FLOAT
    if not quantization.double_quantization:
        return size + scales * FLOAT
    nested = math.ceil(scales / NESTED_BLOCK) * FLOAT
    return size + scales + nested + 2**8 * FLOAT + FLOAT


def quantization_of(model: PreTrainedModel | PeftModel) -> QuantizationRecipe | None:
    """How a model in memory is quantised; None where it is not."""
    config = getattr(model.config, "quantization_config", None)
    if config is None:
        return None
    return QuantizationRecipe(double_quantization=config.bnb_4bit_use_double_quant)


def keep_trainable(model: PreTrainedModel) -> None:
    """Forbid bitsandbytes to repack weights on a CPU when a forward pass needs no gradient.

    It does so in place on CPUs with AVX512-BF16, and what is packed has no backward pass: after the
    first sampled answer, gradients would end at the layer and nobody would be told.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
