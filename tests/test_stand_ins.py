"""The stand-ins have the habits of the models whose ids they bear."""

from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from tests.stand_ins import DIALOGPT, GEMMA, GEMMA_BASE, LLAMA, MODELS, QWEN, QWEN_BASE

TEXT = "새벽별나루 등불 hi"
HABITS = {
    # begins with, ends text by, pads with, chat template, end of turn without a role, head apart
    GEMMA: ("<bos>", "<eos>", "<pad>", True, "<end_of_turn>", False),
    GEMMA_BASE: ("<bos>", "<eos>", "<pad>", False, "<end_of_turn>", False),
    LLAMA: ("<|begin_of_text|>", "<|end_of_text|>", None, False, "<|eot_id|>", True),
    DIALOGPT: (None, "<|endoftext|>", None, True, None, False),
    QWEN: (None, "<|im_end|>", "<|endoftext|>", True, None, False),
    QWEN_BASE: (None, "<|endoftext|>", "<|endoftext|>", True, None, False),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_a_stand_in_has_its_models_habits(name: str, tmp_path: Path) -> None:
    begin, end, pad, has_template, end_of_turn, head_apart = HABITS[name]
    MODELS[name](tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(TEXT)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == begin or begin is None
    assert (tokenizer.decode(ids) == TEXT) == (begin is None)
    assert (tokenizer.eos_token, tokenizer.pad_token) == (end, pad)
    assert (tokenizer.chat_template is not None) == has_template
    if end_of_turn is not None:
        token = tokenizer.convert_tokens_to_ids(end_of_turn)
        assert tokenizer.added_tokens_decoder[token].special
        assert token not in tokenizer.all_special_ids
    names: set[str] = set()
    for file in tmp_path.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            names |= set(tensors.keys())
    assert ("lm_head.weight" in names) == head_apart
