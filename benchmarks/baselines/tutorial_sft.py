"""The SFT of tutorials: every text padded to the longest length, every weight trained.

Written anew after two widely read tutorials: Transformers' Trainer over rows that `map` has padded
to `max_length`, batches of 4 accumulated twice, weight decay 0.01. Mended: the labels of padding
are masked, where the tutorials learn the padding too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

IGNORED = -100


def padded(texts: Sequence[Sequence[int]], max_length: int, pad_id: int) -> list[dict[str, Any]]:
    """A row a text."""
    rows = []
    for text in texts:
        room = max_length - len(text)
        rows.append(
            {
                "input_ids": [*text, *[pad_id] * room],
                "attention_mask": [1] * len(text) + [0] * room,
                "labels": [*text, *[IGNORED] * room],
            }
        )
    return rows


def trainer_of(model: Any, rows: Sequence[dict[str, Any]], folder: Path) -> Trainer:
    """The tutorials' trainer, for one pass."""
    settings = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        weight_decay=0.01,
        logging_steps=10,
        learning_rate=5e-5,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    return Trainer(model=model, args=settings, train_dataset=Dataset.from_list(list(rows)))


@torch.inference_mode()
def mean_loss(model: Any, rows: Sequence[dict[str, Any]]) -> float:
    """Loss a token, of padded rows one by one."""
    total, number = 0.0, 0
    for row in rows:
        batch = {name: torch.tensor([values]) for name, values in row.items()}
        counted = int((batch["labels"][:, 1:] != IGNORED).sum())
        total += float(model(**batch).loss) * counted
        number += counted
    return total / number
