"""Small tokenizers with the control tokens and habits of those that the recipes' models have."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AddedToken, PreTrainedTokenizerFast

CORPUS = Path(__file__).parents[2] / "data" / "corpus.jsonl"
SIZE = 700


def _texts() -> list[str]:
    lines = CORPUS.read_text(encoding="utf-8").splitlines()[:800]
    marks = (
        "### context: question: Instruction: Response: 질문: 답변: 요약:\n\nuser model assistant\n"
    )
    return [json.loads(line)["text"] for line in lines] + [marks] * 20


def _byte_level(special: list[str], **roles: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=SIZE, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    # special without a role, as in Llama 3's file
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **roles
    )


def gemma() -> PreTrainedTokenizerFast:
    """SentencePiece's habits: a mark for a space, bytes as a fallback, runs of newlines as one."""
    named = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n"]
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    pieces = [*named, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = BpeTrainer(vocab_size=SIZE + 600, special_tokens=pieces, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    content = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = None
    content["added_tokens"] = content["added_tokens"][: len(named)]
    for token in content["added_tokens"][-2:]:
        token["special"] = False
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


def llama3() -> PreTrainedTokenizerFast:
    """A BOS, an end of text, an end of turn without a role, and nothing to pad with."""
    roles = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    turns = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return _byte_level([*roles.values(), *turns], **roles)


def gpt2() -> PreTrainedTokenizerFast:
    """One token is beginning, end and unknown; none pads."""
    end = "<|endoftext|>"
    return _byte_level([end], bos_token=end, eos_token=end, unk_token=end)


def qwen() -> PreTrainedTokenizerFast:
    """No BOS; a base whose end of text is not the end of a turn."""
    end = "<|endoftext|>"
    return _byte_level([end, "<|im_start|>", "<|im_end|>"], eos_token=end, pad_token=end)


STYLES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "google/gemma": gemma,
    "beomi/Llama-3": llama3,
    "microsoft/DialoGPT": gpt2,
    "Qwen/Qwen3": qwen,
}
"""How the ids of the recipes' models begin -> a tokenizer like theirs."""


@cache
def tokenizer_like(model: str) -> PreTrainedTokenizerFast:
    """A tokenizer like that of a recipe's model."""
    return next(make() for start, make in STYLES.items() if model.startswith(start))
