"""Precision and kernels: decided from facts alone, whatever machine the tests run on."""

import logging

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import GPT2Config, GPT2Model

from posttrain.artifacts import BaseModel
from posttrain.models import device as models_device
from posttrain.models.adapters import new_adapter
from posttrain.models.device import (
    Kernels,
    Machine,
    Package,
    architecture_of,
    choose,
    device,
    kernels,
    this_machine,
)
from posttrain.models.load import load_base
from posttrain.recipe.train import LoraRecipe
from posttrain.runtime import Runtime

BOTH: frozenset[Package] = frozenset({"flash_attn", "liger_kernel"})
TURING, AMPERE, HOPPER = (7, 5), (8, 0), (9, 0)


def on(
    capability: tuple[int, int] | None,
    architecture: str = "LlamaForCausalLM",
    packages: frozenset[Package] = BOTH,
    **runtime: str,
) -> Kernels:
    machine = Machine(capability=capability, packages=packages)
    return choose(machine, Runtime(**runtime), architecture)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capability", "architecture", "precision", "attention", "liger"),
    [
        (None, "LlamaForCausalLM", "float32", "sdpa", False),
        (None, "Gemma3ForCausalLM", "float32", "sdpa", False),
        (TURING, "LlamaForCausalLM", "float16", "sdpa", True),
        (TURING, "GPT2LMHeadModel", "float16", "sdpa", False),
        (TURING, "Gemma3ForCausalLM", "float32", "sdpa", True),
        (AMPERE, "LlamaForCausalLM", "bfloat16", "flash_attention_2", True),
        (HOPPER, "gemma3_text", "bfloat16", "flash_attention_2", True),
        (HOPPER, "qwen3", "bfloat16", "flash_attention_2", True),
        (HOPPER, "gpt2", "bfloat16", "flash_attention_2", False),
    ],
)
def test_alignment_07_precision_and_kernels_by_the_machine(
    capability: tuple[int, int] | None,
    architecture: str,
    precision: str,
    attention: str,
    liger: bool,
) -> None:
    chosen = on(capability, architecture)
    assert (chosen.precision, chosen.attention, chosen.liger) == (precision, attention, liger)
    assert chosen.dtype == getattr(torch, precision)


def test_without_the_packages_a_gpu_runs_pytorchs_own() -> None:
    chosen = on(HOPPER, packages=frozenset())
    assert (chosen.precision, chosen.attention, chosen.liger) == ("bfloat16", "sdpa", False)
    assert chosen.why[1:] == ("flash-attn is not installed", "liger-kernel is not installed")


def test_plain_kernels_are_pytorchs_own_whatever_is_installed() -> None:
    chosen = on(HOPPER, kernels="plain")
    assert (chosen.attention, chosen.liger) == ("sdpa", False)
    assert chosen.why[1:] == ("POSTTRAIN_KERNELS", "POSTTRAIN_KERNELS")


def test_a_precision_that_is_asked_for_is_given() -> None:
    assert on(None, dtype="bfloat16").precision == "bfloat16"
    assert on(HOPPER, dtype="float16").attention == "flash_attention_2"
    whole = on(HOPPER, dtype="float32")
    assert (whole.precision, whole.attention) == ("float32", "sdpa")
    assert "FlashAttention wants 16 bits" in str(whole)


def test_alignment_07_float16_is_refused_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_DTYPE", "float16")
    monkeypatch.setenv("POSTTRAIN_DEVICE", "cpu")
    with pytest.raises(ValueError, match="POSTTRAIN_DTYPE=float16, but models run on the CPU"):
        kernels(Runtime.from_environment(), "LlamaForCausalLM")


@pytest.mark.parametrize("capability", [TURING, HOPPER])
def test_alignment_07_float16_is_refused_for_gemma(capability: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="activations of gemma3 leave its range"):
        on(capability, "Gemma3ForCausalLM", dtype="float16")


def test_a_cpu_computes_in_float32_with_pytorchs_attention() -> None:
    runtime = Runtime(device="cpu")
    assert this_machine(runtime).capability is None
    assert device(runtime).type == "cpu"
    assert kernels(runtime, "LlamaForCausalLM") == on(None)


def test_the_choice_is_logged_once_with_its_reasons(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="posttrain.models.device"):
        for _ in range(3):
            kernels(Runtime(device="cpu"), "MistralForCausalLM")
    assert caplog.messages == [
        "MistralForCausalLM: float32 (a CPU), sdpa (a CPU), no liger (a CPU)"
    ]


def test_ligers_kernels_are_put_into_a_base_before_any_adapter(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package runs on GPUs alone: what it is handed is looked at, as it was then."""
    seen: list[tuple[str, bool, dict[str, bool]]] = []

    def apply(model: torch.nn.Module, config: dict[str, bool]) -> None:
        adapted = any(isinstance(module, BaseTunerLayer) for module in model.modules())
        seen.append((type(model).__name__, adapted, config))

    monkeypatch.setenv("POSTTRAIN_DTYPE", "float32")
    monkeypatch.setattr(models_device, "apply_liger_kernel", apply)
    new_adapter(load_base(base), LoraRecipe())
    assert seen == []
    there = Machine(capability=HOPPER, packages=frozenset({"liger_kernel"}))
    monkeypatch.setattr(models_device, "this_machine", lambda runtime: there)
    new_adapter(load_base(base), LoraRecipe())
    losses = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    assert seen == [("LlamaForCausalLM", False, losses)]


def test_the_architecture_of_a_wrapped_model_is_found() -> None:
    model = GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=10))
    assert architecture_of(torch.nn.Sequential(model)) == "gpt2"
