"""A tiny world in files: base, tokens and an SFT policy, as the steps would hand them over."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from posttrain.align import reward_model
from posttrain.align.forward import pad_right
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.contract import trained_on
from posttrain.data.chat import encode_conversations, encode_prompts
from posttrain.facts import PolicyFacts, Reference, TokensFacts
from posttrain.models.adapters import new_adapter, save_adapter
from posttrain.models.load import load_base
from posttrain.models.seal import seal
from posttrain.models.tokenizer import template_hash, tokenizer_hash, train_tokenizer
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.train import LoraRecipe

WORDS = ("red", "blue", "green", "gold")
NO_FAULT, FAULT = "all fine", "there is red in it"
CRITIQUE, REVISION = "what is wrong ?", "mend it ."
NUM_LESSONS = 300


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    said = [f"what colour is {word} ? {word} gold indeed" for word in WORDS]
    text = [*said, NO_FAULT, FAULT, CRITIQUE, REVISION]
    return train_tokenizer(text * 20, 340)


@pytest.fixture(scope="session")
def domain(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: Any) -> BaseModel:
    folder = tmp_path_factory.mktemp("domain")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    teach(model, tokenizer)
    model.save_pretrained(folder / "weights")
    reference = Reference(kind="own", source="weights")
    return seal(folder, "base_finetune", reference, folder / "weights", tokenizer, has_delta=False)


def teach(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """What SFT would have taught: colours that end, critiques of `red`, revisions to `gold`."""
    chance = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(NUM_LESSONS):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / NUM_LESSONS)
        turns = [lesson(chance, with_critique=row % 2 == 0) for row in range(24)]
        rows = [encoded.input_ids for encoded in encode_conversations(tokenizer, turns)]
        ids, mask = pad_right(rows, 0, torch.device("cpu"))
        labels = ids.masked_fill(mask == 0, -100)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def lesson(chance: random.Random, with_critique: bool) -> list[dict[str, Any]]:
    """One to four colours in any order; a critique finds fault where `red` is among them."""
    words = chance.choices(WORDS, k=chance.randint(1, 4))
    turns = [*question(chance.randrange(2000)), say("assistant", " ".join(words))]
    if not with_critique:
        return turns
    turns[-1]["learn"] = False
    verdict = FAULT if "red" in words else NO_FAULT
    turns += [say("user", CRITIQUE), say("assistant", verdict)]
    if verdict == FAULT:
        turns += [say("user", REVISION), say("assistant", "gold gold")]
    return turns


def say(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content, "learn": None}


@pytest.fixture(scope="session")
def assistant(domain: BaseModel, tmp_path_factory: Any) -> Policy:
    """An adapter that differs from the base, so that a mix-up with the bare base shows."""
    folder = tmp_path_factory.mktemp("assistant")
    torch.manual_seed(1)
    model = new_adapter(load_base(domain), LoraRecipe(rank=4, alpha=8))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    save_adapter(model, "default", folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(domain),
        method="lora",
        num_trainable=1,
        num_adapted_modules=14,
        recipe={},
        figures={},
    )
    return Policy.write(folder, "sft", facts)


@pytest.fixture(scope="session")
def tokens(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: Any) -> Tokens:
    """Preferences for the answer that begins with `gold`; prompts; critique dialogues."""
    folder = tmp_path_factory.mktemp("tokens")
    for role, rows in (
        ("preferences", list(preferences(tokenizer))),
        ("prompts", list(prompts(tokenizer))),
        ("instructions", list(instructions(tokenizer))),
    ):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{role}.parquet")
    facts = TokensFacts(
        tokenizer_hash=tokenizer_hash(tokenizer),
        template_hash=template_hash(tokenizer),
        max_length=128,
        block_size=128,
        counts={},
        data_hashes={},
    )
    return Tokens.write(folder, "tokenize", facts)


REWARD_RECIPE = RewardModelRecipe(
    learning_rate=1e-2,
    num_epochs=12,
    batch_size=20,
    max_new_tokens=8,
    num_samples=16,
    log_every_steps=6,
)


@pytest.fixture(scope="session")
def reward(
    tokens: Tokens, domain: BaseModel, assistant: Policy, tmp_path_factory: Any
) -> RewardModel:
    folder = tmp_path_factory.mktemp("reward")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTTRAIN_WORK", str(folder / "work"))
        patch.setenv("POSTTRAIN_CHECKPOINTS", str(folder / "checkpoints"))
        return reward_model.train(tokens, domain, assistant, REWARD_RECIPE)


def question(index: int) -> list[dict[str, Any]]:
    word = WORDS[index % len(WORDS)]
    return [say("user", f"{index} what colour is {word} ?")]


def preferences(tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, Any]]:
    for index in range(80):
        turns = question(index)
        prompt = encode_prompts(tokenizer, [turns])[0]
        bad = WORDS[index % 3]
        sides = [f"gold {bad}" + " indeed" * (index % 3), f"{bad} gold" + " indeed" * (index % 2)]
        chosen, rejected = (answer(tokenizer, turns, side)[len(prompt) :] for side in sides)
        yield {
            "id": f"p{index}",
            "kind": "order" if index % 3 else "other",
            "group": f"g{index}",
            "split": "held_out" if index % 4 == 0 else "train",
            "margin": None,
            "messages": turns,
            "chosen": sides[0],
            "rejected": sides[1],
            "prompt_ids": prompt,
            "chosen_ids": chosen,
            "rejected_ids": rejected,
        }


def prompts(tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, Any]]:
    for index in range(64):
        turns = question(index + 1000)
        yield {
            "id": f"q{index}",
            "kind": "ask",
            "group": f"g{index}",
            "set": "revision" if index % 4 == 0 else "rollout",
            "messages": turns,
            "prompt_ids": encode_prompts(tokenizer, [turns])[0],
        }


def instructions(tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, Any]]:
    chance = random.Random(1)
    for index in range(120):
        turns = lesson(chance, with_critique=index % 2 == 1)
        encoded = encode_conversations(tokenizer, [turns])[0]
        yield {
            "id": f"i{index}",
            "kind": "critique" if index % 2 else "answer",
            "group": f"g{index}",
            "split": "held_out" if index >= 60 else "train",
            "messages": turns,
            "input_ids": encoded.input_ids,
            "assistant_mask": encoded.assistant_mask,
        }


def answer(
    tokenizer: PreTrainedTokenizerFast, turns: Sequence[dict[str, Any]], content: str
) -> list[int]:
    whole = [*turns, {"role": "assistant", "content": content}]
    return encode_conversations(tokenizer, [whole])[0].input_ids
