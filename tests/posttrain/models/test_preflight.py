"""Mistakes that the pre-flight finds in seconds, each by its message."""

import pytest
import torch
from transformers import LlamaConfig, OPTConfig, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.models.preflight import check
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.preflight import Preflight

CONFIG = LlamaConfig(
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    vocab_size=320,
    max_position_embeddings=128,
)


def preflight(**changes: object) -> Preflight:
    values = {
        "target_modules": {"sft": "all-linear"},
        "longest_sequence": 128,
        "longest_fields": "tokenize.max_length + ppo.max_new_tokens",
        "chat_template": None,
        "system": None,
        "learn_prompts": False,
    }
    return Preflight.model_validate(values | changes)


def test_a_sequence_of_all_positions_passes(tokenizer: PreTrainedTokenizerFast) -> None:
    check(CONFIG, tokenizer, preflight())


def test_a_longer_one_names_the_fields_that_ask_for_it(tokenizer: PreTrainedTokenizerFast) -> None:
    message = (
        r"tokenize.max_length \+ ppo.max_new_tokens asks for 129 tokens; the base has 128 "
        "positions: lower it, or choose another base"
    )
    with pytest.raises(ValueError, match=message):
        check(CONFIG, tokenizer, preflight(longest_sequence=129))


def test_a_target_that_no_layer_bears_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    message = r"sft.lora.target_modules: no layer is named 'q_prog'; did you mean 'q_proj'\?"
    with pytest.raises(ValueError, match=message):
        check(CONFIG, tokenizer, preflight(target_modules={"sft": ("k_proj", "q_prog")}))


def test_blocks_without_a_place_for_bottlenecks_are_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    check(CONFIG, tokenizer, preflight(bottleneck=("sft",)))
    other = OPTConfig(
        hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=320
    )
    message = "sft.method bottleneck: OPTForCausalLM does not have self_attn.o_proj and mlp.down"
    with pytest.raises(ValueError, match=message):
        check(other, tokenizer, preflight(bottleneck=("sft",)))


def test_no_memory_is_taken_for_the_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    huge = LlamaConfig(**{**CONFIG.to_dict(), "hidden_size": 1 << 20, "intermediate_size": 1 << 20})
    check(huge, tokenizer, preflight())
    assert torch.get_default_device() == torch.device("cpu")


def test_a_tokenizer_without_a_template_is_refused(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base)  # its own copy: the fixture is the session's
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"no chat template; name one in template.chat_template"):
        check(CONFIG, tokenizer, preflight())
