"""Streaming against `generate`; pieces of text against the whole, on two kinds of tokenizers."""

import random

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from posttrain.models.generate import generate
from posttrain.models.stream import pieces, stream, text_of
from tests.posttrain.models.test_generate import prompts, sampling, some_ends
from tests.tiny_models import FAMILIES, tiny

KOREAN = "안녕하세요 😀 한국어와 👩‍🚀 그리고 é 그리고 𝄞\n두 번째 줄"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_what_is_streamed_is_what_generate_gives(family: str, temperature: float) -> None:
    model = tiny(family)
    drawn = sampling(end_ids=some_ends(model), temperature=temperature)
    for prompt in prompts()[:6]:
        assert list(stream(model, prompt, drawn)) == generate(model, [prompt], drawn)[0]


def test_a_stream_that_is_left_restores_the_model_and_never_holds_the_grad_mode() -> None:
    model = tiny("llama").train()
    tokens = stream(model, [5, 6], sampling())
    next(tokens)
    assert torch.is_grad_enabled()
    assert not model.training
    tokens.close()
    assert model.training


def test_a_prompt_without_room_for_its_answer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"80 tokens and max_new_tokens \(30\).* 96 positions"):
        next(stream(tiny("llama"), [4] * 80, sampling()))


def test_no_half_characters_of_byte_level_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(KOREAN, add_special_tokens=False)["input_ids"]
    assert len(ids) > len(KOREAN), "characters are of several tokens"
    found = list(pieces(tokenizer, ids, ()))
    assert "".join(found) == KOREAN
    assert not any("\ufffd" in piece for piece in found)
    assert sum(map(bool, found)) > len(KOREAN) / 2, "as they are made, not at the end"


def test_no_half_characters_of_byte_fallback_tokens() -> None:
    tokenizer = with_byte_fallback()
    ids = tokenizer(KOREAN, add_special_tokens=False)["input_ids"]
    found = list(pieces(tokenizer, ids, ()))
    assert "".join(found) == KOREAN
    assert sum(map(bool, found)) > 5


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_pieces_of_any_tokens_joined_are_the_whole_text(
    tokenizer: PreTrainedTokenizerFast, kind: str
) -> None:
    """Random tokens: broken bytes, control tokens and spaces in all orders."""
    chosen = tokenizer if kind == "byte level" else with_byte_fallback()
    ends = (chosen.convert_tokens_to_ids("<|end|>"),)
    draw = random.Random(0)
    for _ in range(1_000):
        ids = draw.choices(range(len(chosen)), k=draw.randint(1, 25))
        ids = ids[: ids.index(ends[0]) + 1] if ends[0] in ids else ids
        assert "".join(pieces(chosen, ids, ends)) == text_of(chosen, ids, ends)


def test_control_tokens_and_the_end_are_no_text(tokenizer: PreTrainedTokenizerFast) -> None:
    user, end = tokenizer.convert_tokens_to_ids(["<|user|>", "<|end|>"])
    red = tokenizer(" it is red ", add_special_tokens=False)["input_ids"]
    assert "".join(pieces(tokenizer, [user, *red, end], (end,))) == "it is red"
    plain = red[-2]  # an end token that is not special, as some templates have
    assert "".join(pieces(tokenizer, [*red[:-2], plain], (plain,))) == text_of(
        tokenizer, red[:-2], ()
    )


def with_byte_fallback() -> PreTrainedTokenizerFast:
    """As SentencePiece's: a few words, and bytes for all else."""
    words = ["<|end|>", "<|user|>", "▁", "한", "국", "그", "리", "고", "번", "째", "안", "녕"]
    entries = words + [f"<0x{byte:02X}>" for byte in range(256)]
    model = models.BPE(
        vocab={entry: place for place, entry in enumerate(entries)},
        merges=[],
        byte_fallback=True,
        fuse_unk=True,
    )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", additional_special_tokens=["<|user|>"]
    )
