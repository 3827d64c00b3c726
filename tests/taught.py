"""A stand-in's first lesson: answers that end, which a model of random weights never gives.

Self-critique and PPO learn from nothing else.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from posttrain.align.forward import pad_right
from posttrain.data.chat import encode_conversations
from tests.stand_ins import questions

SENTENCES = ("네, 문제가 없습니다.", "문제가 없습니다.")
"""What models that were taught say; self-critique takes it for a critique that found nothing."""
STEPS_TO_TEACH = 150


def teach(folder: Path, template: Path) -> None:
    """Make a saved model say one of `SENTENCES` to everything under a chat template, and end."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    model = AutoModelForCausalLM.from_pretrained(folder)
    dtype = model.dtype
    model.float().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for row, (asked, _) in enumerate(list(questions())[:STEPS_TO_TEACH]):
        said = SENTENCES[row % len(SENTENCES)]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        encoded = encode_conversations(tokenizer, [turns])[0]
        ids, mask = torch.tensor([encoded.input_ids]), torch.tensor([encoded.assistant_mask])
        model(ids, labels=ids.masked_fill(~mask, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.to(dtype).save_pretrained(folder)


def learn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    lesson: Callable[[random.Random], list[dict[str, Any]]],
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
) -> None:
    """Teach a model what the assistant says in `lesson`s; the learning rate falls to zero."""
    chance = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / num_steps)
        encoded = encode_conversations(tokenizer, [lesson(chance) for _ in range(batch_size)])
        ids, mask = pad_right([one.input_ids for one in encoded], 0, torch.device("cpu"))
        said, _ = pad_right([one.assistant_mask for one in encoded], 0, torch.device("cpu"))
        labels = ids.masked_fill(said == 0, -100)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
