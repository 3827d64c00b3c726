"""A small run's YAML on real files: instructions, and a tiny base in a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from posttrain.artifacts import BaseModel

ROWS = [{"question": f"{i} what colour ?", "answer": "it is gold", "topic": "t"} for i in range(8)]


def instructions(folder: Path) -> Path:
    """A file of rows whose columns a recipe has to map."""
    file = folder / "qa.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return file


def model_folder(base: BaseModel, folder: Path) -> Path:
    """A base as a hub or a disk has it: weights, configuration and tokenizer side by side."""
    shutil.copytree(base.path / "weights", folder)
    shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def recipe(source: str, base: str) -> dict[str, Any]:
    """What `fine_tuning` needs, and no more."""
    training = {"learning_rate": 1e-3, "num_epochs": 1, "batch_size": 2}
    return {
        "ingest": {
            "instructions": {
                "source": source,
                "fields": {"prompt": "question", "response": "answer", "group": "topic"},
                "held_out_share": 0.25,
            }
        },
        "base_model": {"source": base},
        "tokenize": {"max_length": 64, "block_size": 64},
        "base_finetune": {"method": "none"},
        "sft": {"lora": {"rank": 4}, **training},
        "evaluation": {"window": 64, "stride": 32},
        "registration": {"model_name": "tiny"},
        "promotion": {"limits": [{"figure": "perplexity_answers", "at_most": 20}]},
    }


def write(file: Path, recipe: dict[str, Any], **keys: Any) -> Path:
    """The run's YAML."""
    content = {"parameters": {"recipe": recipe}, **keys}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file
