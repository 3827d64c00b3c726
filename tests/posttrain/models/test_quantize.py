"""Bases in NF4, on four architectures: what is quantised, what stays, and what is merged when."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts, Reference
from posttrain.models.adapters import (
    adapter_weights,
    count_adapted,
    method_of,
    new_adapter,
    save_adapter,
)
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import attach, load_base, load_base_of, load_merged, load_policy
from posttrain.models.quantize import quantization_of
from posttrain.models.seal import seal
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.train import LoraRecipe, QuantizationRecipe
from tests.architectures import NAMES, make_base

NF4 = QuantizationRecipe()
LORA = LoraRecipe(rank=4, alpha=8)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture
def base_of(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[[str], BaseModel]:
    return lambda name: make_base(name, tokenizer, tmp_path / name)


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found.float()


def disturb(model: PeftModel) -> None:
    torch.manual_seed(3)
    for weight in adapter_weights(model, "default").values():
        nn.init.normal_(weight, std=0.1)


def write_policy(base: BaseModel, folder: Path, model: PeftModel) -> Policy:
    save_adapter(model, "default", folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method=method_of(model, "default"),
        quantization=quantization_of(model),
        num_trainable=1,
        num_adapted_modules=14,
        recipe={},
        figures={},
    )
    return Policy.write(folder, "sft", facts)


@pytest.mark.parametrize("name", NAMES)
def test_linear_layers_are_in_4_bits_and_output_embeddings_and_norms_are_not(
    name: str, base_of: Callable[[str], BaseModel]
) -> None:
    """GPT-2's Conv1D among them."""
    base = base_of(name)
    model = load_base(base, quantization=NF4)
    kept = {path for path, m in model.named_modules() if isinstance(m, Linear4bit)}
    assert len(kept) == (2 * 4 if name == "gpt2" else 2 * 7)
    assert type(model.get_output_embeddings()) is nn.Linear
    assert type(model.get_output_embeddings().weight) is nn.Parameter
    others = [p for p in model.parameters() if type(p) is nn.Parameter]
    assert {p.dtype for p in others} == {torch.float32}
    assert not any(p.requires_grad for p in model.parameters())
    whole, near = logits(load_base(base)), logits(model)
    assert not torch.equal(near, whole)
    assert torch.corrcoef(torch.stack([near.flatten(), whole.flatten()]))[0, 1] > 0.95


def test_double_quantization_is_the_recipes(base_of: Callable[[str], BaseModel]) -> None:
    base = base_of("llama")
    for chosen in (True, False):
        recipe = QuantizationRecipe(double_quantization=chosen)
        model = load_base(base, quantization=recipe)
        layer = next(m for m in model.modules() if isinstance(m, Linear4bit))
        assert layer.weight.quant_state.nested is chosen
        assert layer.weight.quant_state.quant_type == "nf4"
        assert quantization_of(model) == recipe
    assert quantization_of(load_base(base)) is None


@pytest.mark.parametrize("name", NAMES)
def test_gradients_pass_after_an_answer_was_sampled(
    name: str, base_of: Callable[[str], BaseModel]
) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes repacks what it has once used without a gradient."""
    base = base_of(name)
    sampling = Sampling(
        max_new_tokens=3, temperature=0.0, end_ids=(1,), pad_id=0, batch_size=2, seed=0
    )
    found = []
    for sample_first in (False, True):
        torch.manual_seed(0)
        model = new_adapter(load_base(base, quantization=NF4), LORA).eval()
        disturb(model)
        if sample_first:
            generate(model, [[5, 6, 7], [8, 9]], sampling)
        model(input_ids=IDS, labels=IDS).loss.backward()
        found.append([w.grad for w in adapter_weights(model, "default").values()])
    for fresh, used in zip(*found, strict=True):
        assert fresh is not None
        assert float(fresh.abs().max()) > 0
        assert torch.equal(fresh, used)


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_on_4_bits_survives_the_round_trip(
    name: str, base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    base = base_of(name)
    model = new_adapter(load_base(base, quantization=NF4), LORA).eval()
    disturb(model)
    assert all(w.dtype == torch.float32 for w in adapter_weights(model, "default").values())
    assert method_of(model, "default") == "qlora"
    assert count_adapted(model, "default")[0] == (8 if name == "gpt2" else 14)
    policy = write_policy(base, tmp_path / "policy", model)
    assert torch.equal(logits(load_policy(base, policy)), logits(model))
    assert quantization_of(load_base_of(base, policy)) == NF4
    files = list((tmp_path / "policy").rglob("*.safetensors"))
    assert [file.name for file in files] == ["adapter_model.safetensors"]


def test_its_adapter_on_an_unquantised_base_is_refused(
    base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    base = base_of("llama")
    model = new_adapter(load_base(base, quantization=NF4), LORA)
    policy = write_policy(base, tmp_path / "policy", model)
    with pytest.raises(ValueError, match=r"was trained by qlora on a base with .* this one has No"):
        attach(load_base(base), policy, base, "policy", trainable=False)


def with_delta(base: BaseModel, folder: Path) -> BaseModel:
    """A reference to the base's weights, and a delta that changes them."""
    model = new_adapter(load_base(base), LORA)
    disturb(model)
    save_adapter(model, "default", folder / "delta")
    weights = base.path / "weights"
    reference = Reference(kind="local", source=str(weights))
    return seal(folder, "base_finetune", reference, weights, load_tokenizer(base), has_delta=True)


def test_a_delta_is_merged_before_the_base_is_quantised(
    base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    base = base_of("llama")
    domain = with_delta(base, tmp_path / "domain")
    found = load_base(domain, quantization=NF4)
    layer = found.get_submodule("model.layers.0.mlp.down_proj")
    whole = load_base(domain).get_submodule("model.layers.0.mlp.down_proj").weight
    assert isinstance(layer, Linear4bit)
    expected = Linear4bit(whole.shape[1], whole.shape[0], bias=False, quant_type="nf4")
    expected.load_state_dict({"weight": whole})
    expected = expected.to("cpu")
    x = torch.randn(2, whole.shape[1])
    assert torch.allclose(layer(x), expected(x), atol=1e-5)
    assert torch.equal(logits(found), logits(load_base(domain, quantization=NF4)))  # the copy


def test_the_merged_copy_is_made_anew_when_the_cache_is_gone(
    base_of: Callable[[str], BaseModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = with_delta(base_of("gpt2"), tmp_path / "domain")
    first = logits(load_base(domain, quantization=NF4))
    assert list((tmp_path / "cache" / "merged").iterdir())
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "another"))
    assert torch.equal(logits(load_base(domain, quantization=NF4)), first)


def test_merging_happens_at_16_bits_or_more(
    base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    base = base_of("gpt2")
    model = new_adapter(load_base(base, quantization=NF4), LORA)
    disturb(model)
    policy = write_policy(base, tmp_path / "policy", model)
    whole = load_merged(base, policy)
    assert quantization_of(whole) is None
    unquantised = new_adapter(load_base(base), LORA).eval()
    disturb(unquantised)
    assert torch.allclose(logits(whole), logits(unquantised), atol=1e-4)
