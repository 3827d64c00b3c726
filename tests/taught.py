"""A stand-in's first lesson: answers that end, which a model of random weights never gives.

Self-critique and PPO learn from nothing else.
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

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
