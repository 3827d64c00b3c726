import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts
from posttrain.models.adapters import (
    adapter_weights,
    attach_folder,
    method_of,
    new_adapter,
    save_adapter,
)
from posttrain.models.load import attach, load_base, load_merged, load_policy
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe
from tests.architectures import make_base

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def policy(base: BaseModel, tmp_path: Path) -> Policy:
    """A LoRA policy that differs from its base."""
    model = new_adapter(load_base(base), LoraRecipe(rank=4))
    for weight in adapter_weights(model, "default").values():
        torch.nn.init.normal_(weight, std=0.05)
    folder = tmp_path / "policy"
    save_adapter(model, "default", folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method="lora",
        num_trainable=1,
        num_adapted_modules=14,
        recipe={},
        figures={},
    )
    return Policy.write(folder, "sft", facts)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def test_a_new_adapter_changes_nothing_and_is_float32(base: BaseModel) -> None:
    before = logits(load_base(base))
    model = new_adapter(load_base(base), LoraRecipe(rank=4))
    assert torch.equal(before, logits(model))
    assert all(w.dtype == torch.float32 for w in adapter_weights(model, "default").values())


def test_alignment_07_weights_that_train_are_float32_on_any_machine(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    assert {weight.dtype for weight in load_base(base).parameters()} == {torch.bfloat16}
    trained = load_base(base, trainable=True)
    assert {weight.dtype for weight in trained.parameters()} == {torch.float32}
    assert all(weight.requires_grad for weight in trained.parameters())


def test_a_saved_adapter_loads_with_plain_peft(base: BaseModel, policy: Policy) -> None:
    ours = logits(load_policy(base, policy))
    stock = AutoModelForCausalLM.from_pretrained(base.path / "weights")
    theirs = logits(PeftModel.from_pretrained(stock, policy.path / "adapter").eval())
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, logits(load_base(base)), atol=1e-2)


def test_a_saved_adapter_names_no_folder_of_this_machine(policy: Policy) -> None:
    text = (policy.path / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    assert json.loads(text)["base_model_name_or_path"] is None


def test_a_policy_on_another_base_of_equal_shape_is_refused(
    make_base: Callable[[int], BaseModel], policy: Policy
) -> None:
    with pytest.raises(ValueError, match=r"was trained on base fingerprint \w{12}, and .* has"):
        load_policy(make_base(9), policy)


def test_two_adapters_on_one_base_are_told_apart(base: BaseModel, policy: Policy) -> None:
    model = attach(load_base(base), policy, base, "policy", trainable=True)
    model = attach(model, policy, base, "reference", trainable=False)
    assert all(w.requires_grad for w in adapter_weights(model, "policy").values())
    assert not any(w.requires_grad for w in adapter_weights(model, "reference").values())
    model.set_adapter("policy")
    with torch.no_grad():
        for weight in adapter_weights(model, "policy").values():
            weight.zero_()
    assert torch.allclose(logits(model), logits(load_base(base)), atol=1e-6)


def test_an_adapter_that_lacks_a_weight_is_refused(base: BaseModel, policy: Policy) -> None:
    file = policy.path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    weights.pop(sorted(weights)[0])
    save_file(weights, file)
    with pytest.raises(ValueError, match="its weights differ from the model's adapter in"):
        attach_folder(load_base(base), policy.path / "adapter", "policy", trainable=False)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("rslora", [False, True])
def test_dora_is_the_base_at_first_and_merges_to_what_it_was(
    name: str, rslora: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base(name, tokenizer, tmp_path / name)
    recipe = LoraRecipe(rank=4, rslora=rslora)
    model = new_adapter(load_base(base), recipe, dora=True).eval()
    assert torch.allclose(logits(model), logits(load_base(base)), atol=1e-5)
    for weight in adapter_weights(model, "default").values():
        torch.nn.init.uniform_(weight, 0.5, 1.5) if weight.ndim == 1 else torch.nn.init.normal_(
            weight, std=0.05
        )
    save_adapter(model, "default", tmp_path / "policy" / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method=method_of(model, "default"),
        num_trainable=1,
        num_adapted_modules=1,
        recipe={},
        figures={},
    )
    assert facts.method == "dora"
    policy = Policy.write(tmp_path / "policy", "sft", facts)
    assert torch.equal(logits(load_policy(base, policy)), logits(model))
    assert torch.allclose(logits(load_merged(base, policy)), logits(model), atol=1e-4)


def test_a_bottleneck_is_not_merged(base: BaseModel, tmp_path: Path) -> None:
    model = new_adapter(load_base(base), BottleneckRecipe(size=4))
    save_adapter(model, "default", tmp_path / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method="bottleneck",
        num_trainable=1,
        num_adapted_modules=4,
        recipe={},
        figures={},
    )
    with pytest.raises(ValueError, match="a bottleneck adapter is not linear"):
        load_merged(base, Policy.write(tmp_path, "sft", facts))
