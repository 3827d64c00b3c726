"""Tiny stand-ins of the models and data sets that the recipes name, laid out as on the hub.

Of each model: architecture, names of modules, tied or untied embeddings, class and habits of the
tokenizer, files, precision and generation config; not its size, words or weights. The chat
templates are ours and render what the real ones render.
"""

import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    GemmaTokenizer,
    GenerationConfig,
    GPT2Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from tests.architectures import config
from tests.hub import Hub

GEMMA = "google/gemma-3-1b-it"
GEMMA_BASE = "google/gemma-3-1b-pt"
LLAMA = "beomi/Llama-3-Open-Ko-8B"
DIALOGPT = "microsoft/DialoGPT-medium"
QWEN = "Qwen/Qwen3-4B"
QWEN_BASE = "Qwen/Qwen3-4B-Base"
SOCRATIC = "JosephLee/korean-socratic-qa"
NEWS = "daekeun-ml/naver-news-summarization-ko"

TOKEN = "hf_let_in"
SAFETENSORS_OF_DIALOGPT = "refs/pr/22"
"""The hub's own conversion: the branch `main` holds pickled weights alone."""

SAMPLE = Path(__file__).parent.parent / "data"

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% set opening = '' %}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set opening = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}"
    "{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('the user and the assistant must take turns') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' }}"
    "{{ (opening if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
DIALOGPT_TEMPLATE = "{% for turn in messages %}{{ turn['content'] + eos_token }}{% endfor %}"


def make_all(folder: Path) -> None:
    """Write every model and data set below a folder, each under its id."""
    for name, write in (MODELS | DATASETS).items():
        write(folder / name)


def push_all(hub: Hub, folder: Path) -> None:
    """Put what `make_all` wrote on a hub; Gemma's repositories are gated."""
    for name in MODELS:
        if name == DIALOGPT:
            push_dialogpt(hub, folder / name)
        else:
            hub.push("models", name, folder / name, token=TOKEN if "gemma" in name else None)
    for name in DATASETS:
        hub.push("datasets", name, folder / name)


def push_dialogpt(hub: Hub, folder: Path) -> None:
    """The safetensors on a branch of their own; `main` goes back to the pickled weights."""
    hub.push("models", DIALOGPT, folder, tag=SAFETENSORS_OF_DIALOGPT)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.push("models", DIALOGPT, folder)


def write_gemma(folder: Path, chat_template: str | None = GEMMA_TEMPLATE) -> None:
    """Byte fallback in place of byte-level, and a beginning-of-text token that it adds itself."""
    named = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    trained = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    pieces = [*named, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary, merges = _train(trained, 900, special_tokens=pieces, limit_alphabet=300)
    tokenizer = GemmaTokenizer(
        vocab=vocabulary, merges=merges, add_bos_token=True, chat_template=chat_template
    )
    # special by the tokenizer's table alone, as there: no attribute names them
    tokenizer.add_tokens([AddedToken(token, special=True) for token in named[-2:]])
    ends = tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    model = _model(
        "gemma3", tokenizer, bos_token_id=2, max_position_embeddings=32768, sliding_window=64
    )
    model.generation_config = GenerationConfig(
        bos_token_id=2, eos_token_id=ends, pad_token_id=0, do_sample=True, top_k=64, top_p=0.95
    )
    _save(model, tokenizer, folder)


def write_llama(folder: Path) -> None:
    """A base model: no pad token, no chat template, and control tokens that it never saw."""
    named = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
    trained = _byte_level()
    _train(trained, 800, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    trained.add_special_tokens([*named, "<|eot_id|>", "<|reserved_special_token_0|>"])
    first = (named[0], trained.token_to_id(named[0]))
    trained.post_processor = processors.TemplateProcessing(
        single=f"{named[0]} $A", pair=f"{named[0]} $A {named[0]} $B", special_tokens=[first]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained,
        bos_token=named[0],
        eos_token=named[1],
        clean_up_tokenization_spaces=True,
    )
    model = _model(
        "llama",
        tokenizer,
        bos_token_id=tokenizer.bos_token_id,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    # the real file's ids are Llama 2's: they mean nothing here
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    _save(model, tokenizer, folder, max_shard_size="200KB")


def write_dialogpt(folder: Path) -> None:
    """GPT-2's two files of a tokenizer, and one control token for everything."""
    vocabulary, merges = _train(
        _byte_level(), 800, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    vocabulary["<|endoftext|>"] = len(vocabulary)
    tokenizer = GPT2Tokenizer(vocab=vocabulary, merges=merges, chat_template=DIALOGPT_TEMPLATE)
    end = tokenizer.eos_token_id
    model = _model("gpt2", tokenizer, bos_token_id=end, n_positions=1024)
    model.generation_config = GenerationConfig(bos_token_id=end, eos_token_id=end)
    _save(model, tokenizer, folder, dtype=torch.float16)
    (folder / "tokenizer.json").unlink()
    tokenizer.backend_tokenizer.model.save(str(folder))


def write_qwen(folder: Path, end: str = "<|im_end|>") -> None:
    """No beginning-of-text token; the chat model's `end` is that of a turn."""
    vocabulary, merges = _train(
        _byte_level(), 800, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token=end,
        pad_token="<|endoftext|>",
        unk_token=None,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=QWEN_TEMPLATE,
    )
    ends = tokenizer.convert_tokens_to_ids([end, "<|endoftext|>"])
    model = _model("qwen3", tokenizer, max_position_embeddings=40960)
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=ends[1], do_sample=True, temperature=0.6, top_k=20
    )
    _save(model, tokenizer, folder)


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _train(
    tokenizer: Tokenizer, size: int, **options: Any
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer.train_from_iterator(
        list(documents())[:500], BpeTrainer(vocab_size=size, show_progress=False, **options)
    )
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def _model(name: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config(name, tokenizer, **changes))
    return model


def _save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    **options: Any,
) -> None:
    model.to(dtype).save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)


def documents() -> Iterator[str]:
    """The documents of the sample data, without the planted defects: several sentences each."""
    with (SAMPLE / "corpus.jsonl").open(encoding="utf-8") as lines:
        texts = [str(json.loads(line).get("text") or "") for line in lines]
    yield from dict.fromkeys(text for text in texts if text.count("다.") >= 2)


def questions() -> Iterator[tuple[str, str]]:
    """Questions of the sample data and their answers, each once."""
    found: dict[str, str] = {}
    with (SAMPLE / "instructions.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row.get("kind") == "qa" and len(row["messages"]) == 2:
                asked, answered = (turn["content"] for turn in row["messages"])
                found.setdefault(asked, answered)
    yield from found.items()


def splits(rows: list[dict[str, str]], num_train: int, num_others: int) -> dict[str, Any]:
    """The first rows as `train`, `validation` and `test`."""
    start, end = num_train, num_train + num_others
    return {
        "train": rows[:start],
        "validation": rows[start:end],
        "test": rows[end : end + num_others],
    }


def write_socratic(folder: Path) -> None:
    """Parquet files in the hub's own layout."""
    rows = [{"input": asked, "target": answered} for asked, answered in questions()]
    (folder / "data").mkdir(parents=True)
    for name, part in splits(rows, 96, 24).items():
        pq.write_table(pa.Table.from_pylist(part), folder / f"data/{name}-00000-of-00001.parquet")


def write_news(folder: Path) -> None:
    """Three csv files beside one another, of more columns than are read."""
    rows = [
        {
            "date": "2022-07-01 10:00:00",
            "category": "economy",
            "press": "온새미일보 ",
            "title": text.split(".")[0],
            "document": text,
            "link": f"https://news.invalid/{number}",
            "summary": text.split(".")[0] + ".",
        }
        for number, text in enumerate(documents())
    ]
    folder.mkdir(parents=True)
    for name, part in splits(rows, 96, 24).items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(part[0]))
            writer.writeheader()
            writer.writerows(part)


MODELS: dict[str, Callable[[Path], None]] = {
    GEMMA: write_gemma,
    GEMMA_BASE: partial(write_gemma, chat_template=None),
    LLAMA: write_llama,
    DIALOGPT: write_dialogpt,
    QWEN: write_qwen,
    QWEN_BASE: partial(write_qwen, end="<|endoftext|>"),
}
DATASETS: dict[str, Callable[[Path], None]] = {SOCRATIC: write_socratic, NEWS: write_news}
