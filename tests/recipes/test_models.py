"""What the recipes ask of their models, against the real models' shapes; no weight is made."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen3Config,
)
from transformers.pytorch_utils import Conv1D

from posttrain.models.preflight import find_problems
from posttrain.models.room import estimates, gpu_of, shortages
from posttrain.recipe import Recipe
from posttrain.recipe.workload import workloads
from tests.recipes.styles import tokenizer_like

RECIPES = Path(__file__).parents[2] / "recipes"
GEMMA = Gemma3TextConfig(
    hidden_size=1152,
    intermediate_size=6912,
    num_hidden_layers=26,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
    max_position_embeddings=32_768,
    vocab_size=262_144,
)
LLAMA = LlamaConfig(
    hidden_size=4096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
    vocab_size=128_256,
)
GPT2 = GPT2Config(n_embd=1024, n_layer=24, n_head=16, n_positions=1024, vocab_size=50_257)
QWEN = Qwen3Config(
    hidden_size=2560,
    intermediate_size=9728,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=32_768,
    vocab_size=151_936,
)
MODELS: dict[str, tuple[PreTrainedConfig, str]] = {
    "google/gemma-3-1b": (GEMMA, "google/gemma"),
    "beomi/Llama-3": (LLAMA, "beomi/Llama-3"),
    "microsoft/DialoGPT-medium": (GPT2, "microsoft/DialoGPT"),
    "Qwen/Qwen3-4B": (QWEN, "Qwen/Qwen3"),
    "registry:dialogpt-post-trained@champion": (GPT2, "microsoft/DialoGPT"),
}
NAMES = [file.stem for file in sorted(RECIPES.glob("*.yaml")) if not file.stem.startswith("tiny")]


def recipe_of(name: str) -> Recipe:
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    text = text.replace("source: REQUIRED", "source: mine.jsonl")
    return Recipe(**{**yaml.safe_load(text)["parameters"]["recipe"]})


@pytest.mark.parametrize("name", NAMES)
def test_lengths_modules_and_template_fit_the_model(name: str) -> None:
    recipe = recipe_of(name)
    source = recipe.base_model.source
    config, style = next(model for start, model in MODELS.items() if source.startswith(start))
    tokenizer = tokenizer_like(style)
    template = recipe.template.chat_template or "recipes/instruction.jinja"  # the champion's own
    tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    assert find_problems(config, tokenizer, recipe.preflight) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_fits_the_gpu_that_the_recipe_names(name: str) -> None:
    recipe = recipe_of(name)
    named = re.search(r"GPU of (\d+) GB", (RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert named, "the comment says for which GPU the recipe is meant"
    source = recipe.base_model.source
    config, _ = next(model for start, model in MODELS.items() if source.startswith(start))
    work = workloads(recipe, with_alignment=recipe.reward_model is not None)
    gpu = gpu_of(0.95 * float(named[1]))  # the driver keeps some of it
    assert shortages(estimates(config, work, gpu), work, gpu) == ([], [])


def lora_shapes(config: PreTrainedConfig, targets: tuple[str, ...]) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer that PEFT would adapt."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = []
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] not in targets:
            continue
        assert isinstance(module, torch.nn.Linear | Conv1D)
        size = tuple(module.weight.shape)
        found.append((size[0], size[1]) if isinstance(module, Conv1D) else (size[1], size[0]))
    return found


def num_trainable(shapes: list[tuple[int, int]], rank: int) -> int:
    return sum(rank * (inputs + outputs) for inputs, outputs in shapes)


def test_alignment_05_the_first_documents_parameters_are_those_of_two_of_its_four_modules() -> None:
    lora = recipe_of("gemma3_1b_socratic").sft.lora
    assert num_trainable(lora_shapes(GEMMA, ("k_proj", "v_proj")), lora.rank) == 1_171_456
    assert lora.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert num_trainable(lora_shapes(GEMMA, lora.target_modules), lora.rank) == 2_981_888


def test_alignment_05_gpt2s_modules_are_found_in_attention_and_mlp() -> None:
    lora = recipe_of("dialogpt_medical_qlora").sft.lora
    assert lora.target_modules == ("c_attn", "c_proj", "c_fc")
    shapes = lora_shapes(GPT2, lora.target_modules)
    assert len(shapes) == 96
    assert num_trainable(shapes, lora.rank) == 6_291_456
