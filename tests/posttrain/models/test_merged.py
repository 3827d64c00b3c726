"""An adapter merged for a while: the same logits, and every bit of the base afterwards."""

import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.models import merged as module
from posttrain.models.adapters import adapter_weights, new_adapter
from posttrain.models.merged import merged
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe

IDS = torch.tensor([[5, 9, 2, 7]])


def adapted(method: LoraRecipe | BottleneckRecipe | None = None, dora: bool = False) -> PeftModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = new_adapter(LlamaForCausalLM(config), method or LoraRecipe(rank=4), "a", dora=dora)
    for weight in adapter_weights(model, "a").values():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def bits(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@torch.no_grad()
@pytest.mark.parametrize("dora", [False, True])
def test_logits_are_the_same_and_no_bit_of_the_base_changes(dora: bool) -> None:
    model = adapted(dora=dora)
    before, expected = bits(model), model(IDS).logits
    with merged(model):
        inside = model.state_dict()
        changed = [name for name, weight in inside.items() if not weight.equal(before[name])]
        assert len(changed) == 2 * 7, "every adapted layer"
        assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())
    assert model(IDS).logits.equal(expected)


@torch.no_grad()
def test_each_of_two_adapters_is_read_as_itself() -> None:
    model = adapted()
    model.add_adapter("b", model.peft_config["a"])
    for weight in adapter_weights(model, "b").values():
        torch.nn.init.normal_(weight, std=0.3)
    for name in ("b", "a"):
        model.set_adapter(name)
        expected = model(IDS).logits
        with merged(model):
            assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)
            with merged(model):  # once is enough
                assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)
        assert model(IDS).logits.equal(expected)


@torch.no_grad()
def test_another_adapter_that_is_chosen_meanwhile_is_read_as_itself() -> None:
    """PEFT takes the merged one out first; the base still comes back bit by bit."""
    model = adapted()
    model.add_adapter("b", model.peft_config["a"])
    before, with_a = bits(model), model(IDS).logits
    model.set_adapter("b")
    with_b = model(IDS).logits
    model.set_adapter("a")
    with merged(model):
        model.set_adapter("b")
        assert_close(model(IDS).logits, with_b, rtol=1e-4, atol=1e-5)
    model.set_adapter("a")
    assert model(IDS).logits.equal(with_a)
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("dora", [False, True])
def test_beside_bfloat16_weights_are_cast_once_and_nothing_else_changes(dora: bool) -> None:
    model = adapted(dora=dora)
    for name, weight in model.named_parameters():
        if "lora_" not in name:
            weight.data = weight.data.bfloat16()
    before, expected = bits(model), model(IDS).logits
    with merged(model):
        cast = [name for name, weight in bits(model).items() if weight.dtype != before[name].dtype]
        assert len(cast) == (0 if dora else 2 * 2 * 7), (
            "both weights of each layer; DoRA's are PEFT's"
        )
        with merged(model):
            assert model(IDS).logits.equal(expected)
        assert model(IDS).logits.equal(expected)
    assert all(weight.dtype == before[name].dtype for name, weight in bits(model).items())
    assert all(weight.equal(before[name]) for name, weight in bits(model).items())


def test_dropout_is_not_lost() -> None:
    model = adapted()
    with pytest.raises(RuntimeError, match=r"call eval\(\)"), merged(model.train()):
        pass


@torch.no_grad()
def test_the_base_comes_back_when_something_fails_in_between() -> None:
    model = adapted()
    expected = model(IDS).logits
    with pytest.raises(KeyError), merged(model):
        raise KeyError
    assert model(IDS).logits.equal(expected)


def test_an_adapter_of_no_effect_is_nothing_to_merge() -> None:
    model = adapted()
    before = bits(model)
    with model.disable_adapter(), merged(model):
        assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())


@torch.no_grad()
def test_what_cannot_be_merged_exactly_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    half = adapted()
    half.get_base_model().to(torch.bfloat16)
    output = adapted(LoraRecipe(rank=4, target_modules=("lm_head",)))  # tied to the input
    bottleneck = adapted(BottleneckRecipe(size=4))
    large = adapted()
    for model in (half, output, bottleneck, large):
        if model is large:
            monkeypatch.setattr(module, "MAX_BYTES", 100)
        before = bits(model)
        with merged(model):
            assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())
