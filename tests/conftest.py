"""A tiny world in files: records, a base and a tokenizer of the kinds that the steps hand over."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from zenml.utils import source_utils

from posttrain.artifacts import BaseModel, Records
from posttrain.facts import RecordsFacts, Reference
from posttrain.models.seal import seal
from posttrain.models.tokenizer import train_tokenizer
from tests.faults import injected, pytest_runtest_logreport, pytest_terminal_summary

# ZenML takes it from the main module's file, which a worker of pytest-xdist has not; pipelines name
# their hook when they are imported.
source_utils.set_custom_source_root(str(Path(__file__).parent.parent))

# Recipes of the tests read the tests' own folders, in processes that they start too.
os.environ.setdefault("POSTTRAIN_ROOTS", tempfile.gettempdir())

__all__ = ["injected", "pytest_runtest_logreport", "pytest_terminal_summary"]
"""What `tests/faults.py` adds to every test, and to pytest."""

WORDS = ("red", "blue", "green", "gold")


@pytest.fixture(autouse=True)
def runtime_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in folders of its own, on one thread."""
    for name in ("work", "checkpoints", "cache"):
        monkeypatch.setenv(f"POSTTRAIN_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("POSTTRAIN_THREADS", "1")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 320 entries with our own chat template."""
    text = [f"what colour is {word} ? it is {word} indeed ." for word in WORDS]
    return train_tokenizer(text * 20, 320)


@pytest.fixture(scope="session")
def base(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: Any) -> BaseModel:
    """A Llama of random weights, 32 wide, 2 blocks, 256 positions."""
    folder = tmp_path_factory.mktemp("base")
    return llama(tokenizer, folder, seed=0)


@pytest.fixture
def make_base(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[[int], BaseModel]:
    """Makes bases of equal shape and other weights."""

    def make(seed: int) -> BaseModel:
        folder = tmp_path / f"base-{seed}"
        folder.mkdir()
        return llama(tokenizer, folder, seed)

    return make


def llama(tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int) -> BaseModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "weights")
    reference = Reference(kind="own", source="weights")
    return seal(folder, "base_model", reference, folder / "weights", tokenizer, has_delta=False)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Validated records of every role: 60 documents, 40 conversations, 12 pairs, and so on."""
    folder = tmp_path / "records"
    folder.mkdir()
    roles: dict[str, list[dict[str, Any]]] = {
        "corpus": [
            {"id": f"c{i}", "text": f"the sky is {WORDS[i % 4]} on day {i}", "split": split(i)}
            for i in range(60)
        ],
        "instructions": [
            {
                "id": f"i{i}",
                "kind": "qa",
                "group": f"g{i}",
                "split": split(i),
                "messages": [
                    {"role": "user", "content": f"{i} what colour ?", "learn": None},
                    {"role": "assistant", "content": f"it is {WORDS[i % 4]}", "learn": None},
                ],
            }
            for i in range(40)
        ],
        "preferences": [
            {
                "id": f"p{i}",
                "kind": "colour",
                "group": f"g{i}",
                "split": split(i),
                "margin": None,
                "prompt": [{"role": "user", "content": f"{i} what colour ?"}],
                "chosen": "it is gold",
                "rejected": "it is red",
            }
            for i in range(12)
        ],
        "prompts": [
            {
                "id": f"q{i}",
                "kind": "ordinary",
                "group": f"g{i}",
                "set": "rollout",
                "prompt": [{"role": "user", "content": f"{i} which colour ?"}],
            }
            for i in range(8)
        ],
        "probes": [
            {
                "id": f"b{i}",
                "kind": "fact",
                "group": f"g{i}",
                "set": "A" if i % 2 else "B",
                "prompt": f"{i} what colour is it ?",
                "answer": WORDS[i % 4],
            }
            for i in range(8)
        ],
    }
    for role, rows in roles.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{role}.parquet")
    facts = RecordsFacts(num_rows={role: len(rows) for role, rows in roles.items()}, sources={})
    return Records.write(folder, "validate", facts)


def split(index: int) -> str:
    return "held_out" if index % 5 == 0 else "train"
