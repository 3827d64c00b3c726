"""Attention in float32 on a CPU: the same in float32, nearer in bfloat16, and its cache."""

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaForCausalLM

from posttrain.models.cache import RoomyLayer, roomy_cache
from posttrain.models.raised_attention import RAISED, raise_attention
from tests.tiny_models import FAMILIES, tiny

IDS = torch.arange(5, 29).reshape(2, 12)
MASK = torch.tensor([[0] * 4 + [1] * 8, [1] * 12])


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float32_it_is_scaled_dot_product_attention(family: str) -> None:
    """With padding on the left; a window of Gemma's is shorter than the text."""
    model = tiny(family)
    theirs = model(input_ids=IDS, attention_mask=MASK).logits
    raise_attention(model)
    assert model.config._attn_implementation == RAISED
    found = model(input_ids=IDS, attention_mask=MASK).logits
    assert_close(found[MASK == 1], theirs[MASK == 1], rtol=0, atol=0)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_it_errs_no_more(family: str, autocast: bool) -> None:
    model = tiny(family)
    exact = model(input_ids=IDS).logits
    if not autocast:
        model = model.bfloat16()
    errors = []
    for raised in (False, True):
        if raised:
            raise_attention(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = model(input_ids=IDS).logits
        assert found.dtype == torch.bfloat16
        errors.append((found.float() - exact).square().mean().sqrt())
    assert errors[1] <= 1.25 * errors[0]


def test_its_cache_is_in_float32_and_another_models_is_not() -> None:
    model = tiny("llama").bfloat16()
    for expected in (torch.bfloat16, torch.float32):
        cache = roomy_cache(model.config, 16)
        logits = model(input_ids=IDS, past_key_values=cache).logits
        assert isinstance(cache.layers[0], RoomyLayer)
        assert cache.layers[0].keys.dtype == expected and logits.dtype == torch.bfloat16
        raise_attention(model)


def test_eager_attention_stays_and_no_saved_model_asks_for_ours(tmp_path: object) -> None:
    eager = LlamaForCausalLM._from_config(tiny("llama").config, attn_implementation="eager")
    raise_attention(eager)
    assert eager.config._attn_implementation == "eager"
    model = tiny("llama")
    raise_attention(model)
    model.save_pretrained(tmp_path)
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
