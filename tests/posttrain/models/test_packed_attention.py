"""A packed row gives each sequence what it would get alone."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.models.packed_attention import PACKED, attend_within_sequences
from tests.tiny_models import FAMILIES, SIZES, tiny

SEQUENCES = [[7, 8, 9, 10, 11, 12], [13], [14, 15], [16, 17, 18, 19], [20, 21, 22, 23, 24, 25, 26]]


def row() -> dict[str, torch.Tensor]:
    ids = [token for one in SEQUENCES for token in one]
    positions = [place for one in SEQUENCES for place in range(len(one))]
    return {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}


@pytest.mark.parametrize("family", FAMILIES)
def test_alignment_04_a_sequence_in_a_row_is_read_as_alone(family: str) -> None:
    model = tiny(family)
    alone = torch.cat([model(input_ids=torch.tensor([one])).logits[0] for one in SEQUENCES])
    masked = model(**row(), use_cache=False).logits[0]
    assert attend_within_sequences(model)
    found = model(**row(), use_cache=False).logits[0]
    assert_close(found, alone, rtol=0, atol=1e-5)
    assert_close(found, masked, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_mask(family: str) -> None:
    gradients = []
    for packed in (False, True):
        model = tiny(family)
        assert not packed or attend_within_sequences(model)
        model(**row(), labels=row()["input_ids"], use_cache=False).loss.backward()
        gradients.append({name: one.grad for name, one in model.named_parameters()})
    assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_what_one_sequence_says_moves_no_other() -> None:
    model, given = tiny("llama"), row()
    assert attend_within_sequences(model)
    before = model(**given, use_cache=False).logits[0]
    given["input_ids"][0, :6] += 20
    after = model(**given, use_cache=False).logits[0]
    assert torch.equal(before[6:], after[6:])
    assert not torch.isclose(before[:6], after[:6]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_it_is_as_near_as_the_mask(family: str) -> None:
    model = tiny(family)
    exact = model(**row(), use_cache=False).logits
    with torch.autocast("cpu", torch.bfloat16):
        masked = model(**row(), use_cache=False).logits
        assert attend_within_sequences(model)
        found = model(**row(), use_cache=False).logits
    assert found.dtype == masked.dtype == torch.bfloat16
    # over all logits: either way's worst one is twice the other's by chance
    error, usual = ((one - exact).pow(2).mean().sqrt() for one in (found, masked))
    assert error <= 1.25 * usual


def test_under_an_adapter_and_with_checkpointing_too() -> None:
    model = get_peft_model(tiny("llama"), LoraConfig(target_modules=["q_proj"]))
    assert attend_within_sequences(model)
    assert model.config._attn_implementation == PACKED
    model.gradient_checkpointing_enable()
    model.train()(**row(), labels=row()["input_ids"], use_cache=False).loss.backward()
    assert any(one.grad is not None and one.grad.any() for one in model.parameters())


def test_rows_side_by_side_are_refused() -> None:
    model = tiny("llama")
    assert attend_within_sequences(model)
    two = {name: torch.cat([one, one]) for name, one in row().items()}
    with pytest.raises(ValueError, match="position ids of one packed row are needed"):
        model(**two, use_cache=False)


def test_layers_of_another_kind_keep_their_own_attention() -> None:
    model = tiny("llama")
    model.config.layer_types = ["full_attention", "chunked_attention"]
    assert not attend_within_sequences(model)
    assert model.config._attn_implementation == "sdpa"
    eager = LlamaForCausalLM._from_config(LlamaConfig(**SIZES), attn_implementation="eager")
    assert not attend_within_sequences(eager)


def test_no_saved_model_asks_for_it(tmp_path: Any) -> None:
    model = tiny("llama")
    assert attend_within_sequences(model)
    model.save_pretrained(tmp_path)
    assert PACKED not in (tmp_path / "config.json").read_text("utf-8")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
