"""SFT and reward model by every method on every architecture: two steps move what they should.

All that is to learn moves, and nothing else does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from posttrain.align.judge import REWARD, new_judge
from posttrain.align.reward_model import RewardTrainer
from posttrain.align.rows import read_pairs
from posttrain.artifacts import BaseModel, Policy, Records, Tokens
from posttrain.data.chat import end_tokens
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.models.adapters import adapter_weights
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, Method
from posttrain.tracking import Curves
from posttrain.train import sft
from posttrain.train.checkpoints import checkpoints_of
from tests.architectures import NAMES, make_base

METHODS: tuple[Method, ...] = ("full", "lora", "qlora", "dora", "bottleneck")
NAMED = {
    "llama": ("q_proj", "v_proj"),
    "gemma3": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "qwen3": ("gate_proj", "up_proj", "down_proj"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
}
NUM_NAMED = {"llama": 4, "gemma3": 8, "qwen3": 6, "gpt2": 8}
TWO_STEPS = {
    "learning_rate": 1e-3,
    "num_epochs": 1,
    "max_steps": 2,
    "batch_size": 4,
    "schedule": "constant",
    "warmup_share": 0.0,
}


@dataclass(frozen=True)
class Case:
    architecture: str
    method: Method
    checkpointed: bool
    named: bool = False
    """LoRA on named modules, with rsLoRA."""

    reward: str = "adapter"

    def __str__(self) -> str:
        kind = "named" if self.named else self.method
        again = "-checkpointed" if self.checkpointed else ""
        return f"{self.architecture}-{kind}{again}-{self.reward}"

    def lora(self) -> LoraRecipe:
        targets = NAMED[self.architecture] if self.named else "all-linear"
        return LoraRecipe(rank=4, alpha=8, target_modules=targets, rslora=self.named)


QUICK = (
    Case("llama", "dora", checkpointed=False),
    Case("gemma3", "lora", checkpointed=True, named=True),
    Case("qwen3", "full", checkpointed=True, reward="full"),
    Case("gpt2", "qlora", checkpointed=True),
    Case("gpt2", "lora", checkpointed=True, reward="full"),
)


def every() -> Iterator[Case]:
    for architecture in NAMES:
        for checkpointed in (False, True):
            for method in METHODS:
                reward = "full" if method == "full" else "adapter"
                yield Case(architecture, method, checkpointed, reward=reward)
            yield Case(architecture, "lora", checkpointed, named=True)
            for method in ("lora", "qlora", "dora"):
                yield Case(architecture, method, checkpointed, reward="full")


CASES = [
    *QUICK,
    *(pytest.param(case, marks=pytest.mark.slow) for case in every() if case not in QUICK),
]

World = Callable[[str], tuple[Tokens, BaseModel]]


@pytest.fixture
def world(records: Records, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> World:
    """Tokens and a base of the architecture named."""

    def make(architecture: str) -> tuple[Tokens, BaseModel]:
        base = make_base(architecture, tokenizer, tmp_path / architecture)
        chats = template(records, base, TemplateRecipe())
        return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64)), base

    return make


def copied(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def moved(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.isfinite(weight).all() for weight in after.values() if weight.requires_grad)
    return {name for name, weight in after.items() if not torch.equal(weight, before[name])}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_learns_moves_and_nothing_else(case: Case, world: World, tmp_path: Path) -> None:
    tokens, base = world(case.architecture)
    policy = fine_tuned(case, tokens, base, tmp_path)
    if case.named:
        assert policy.facts.num_adapted_modules == NUM_NAMED[case.architecture]

    recipe = RewardModelRecipe(
        method=case.reward,
        gradient_checkpointing=case.checkpointed,
        max_new_tokens=4,
        **TWO_STEPS,
    )
    judge = new_judge(base, policy, recipe)
    head = {"head.linear.weight", "head.linear.bias"}
    whole = {name for name, _ in judge.named_parameters()}
    wanted = whole
    if case.reward == "adapter":
        wanted = {f"model.{name}" for name in adapter_weights(judge.model, REWARD)} | head
    assert wanted < whole or case.reward == "full"
    pairs, _ = read_pairs(tokens, "train", end_tokens(load_tokenizer(base)))
    checkpoints = checkpoints_of("reward_model", recipe, tokens, base, policy)
    before = copied(judge)
    RewardTrainer(judge, pairs, recipe, checkpoints, pad_id=0).run(
        recipe, checkpoints, Curves(tmp_path / "reward", "reward_model")
    )
    assert moved(judge, before) == wanted


def fine_tuned(case: Case, tokens: Tokens, base: BaseModel, folder: Path) -> Policy:
    """SFT's policy after two steps, in which only what learns has moved."""
    recipe = SftRecipe(
        method=case.method,
        lora=case.lora(),
        bottleneck=BottleneckRecipe(size=4),
        gradient_checkpointing=case.checkpointed,
        **TWO_STEPS,
    )
    seen: dict[str, Any] = {}
    original = sft.to_train

    def kept(*args: Any) -> Any:
        seen["model"] = original(*args)
        seen["before"] = copied(seen["model"])
        return seen["model"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "to_train", kept)
        policy = sft.train(tokens, base, recipe)
    model, before = seen["model"], seen["before"]
    wanted = set(before)
    if case.method != "full":
        wanted = set(adapter_weights(model, sft.ADAPTER))
        assert wanted < set(before)
    assert moved(model, before) == wanted
    return policy
