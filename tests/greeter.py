"""A tiny base that says one sentence in Korean with emoji, whatever it is asked."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.data.chat import encode_conversations
from posttrain.facts import Reference
from posttrain.models.seal import seal

GREETING = "안녕 😀 저는 안내원 👩‍🚀 입니다."
QUESTIONS = ("what colour ?", "누구세요 ?", "it is red", "안녕 😀", "blue or green ?")


def make_greeter(tokenizer: PreTrainedTokenizerFast, folder: Path) -> BaseModel:
    """Trained on the spot, in seconds; of 1,024 positions."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(_taught(model, tokenizer, folder / "weights"))
    reference = Reference(kind="own", source="weights")
    return seal(folder, "base_model", reference, folder / "weights", tokenizer, has_delta=False)


def _taught(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, weights: Path) -> Path:
    answer = {"role": "assistant", "content": GREETING}
    chats = [[{"role": "user", "content": question}, answer] for question in QUESTIONS]
    encoded = encode_conversations(tokenizer, chats)
    width = max(len(one.input_ids) for one in encoded)
    ids_BS = torch.zeros(len(encoded), width, dtype=torch.long)
    labels_BS = torch.full((len(encoded), width), -100)
    for row, one in enumerate(encoded):
        ids = torch.tensor(one.input_ids)
        ids_BS[row, : len(ids)] = ids
        labels_BS[row, : len(ids)] = ids.where(torch.tensor(one.assistant_mask), torch.tensor(-100))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(100):
        loss = model(input_ids=ids_BS, labels=labels_BS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.01:
            break
    assert loss < 0.05, "the greeter has learnt its sentence"
    return weights
