"""Reward model, PPO and self-critique on two processes equal one with the same global batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from posttrain.align import ppo, reward_model, self_critique
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.launch import run
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.tracking import read_history

TOLERANCE = 1e-4
"""Of a weight, relative to the largest of its tensor: sums are taken in another order."""

REWARD_TOLERANCE = 1e-2
"""A new head's gradients are differences of like numbers, which Adam scales up, rounding too."""

CANCELS = "linear.bias"
"""Of the score's head: no difference of two scores holds it, so that its gradient is rounding."""

CONSTITUTION = """
principles:
- id: red
  principle: {ko: 빨강은 안 됩니다, en: no red}
  critique_request: {ko: "what is wrong ?", en: "what is wrong ?"}
  revision_request: {ko: "mend it .", en: "mend it ."}
"""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes it two processes from here on."""
    return lambda: monkeypatch.setenv("POSTTRAIN_PROCESSES", "2")


def assert_equal_folders(one: Path, other: Path, tolerance: float) -> None:
    files = [path.relative_to(one) for path in one.rglob("*.safetensors")]
    assert files
    for file in files:
        found = load_file(other / file)
        for name, tensor in load_file(one / file).items():
            if name == CANCELS:
                continue
            largest = float(tensor.abs().max())
            assert_close(found[name], tensor, rtol=0, atol=tolerance * largest, msg=name)
    for point, like in zip(read_history(other), read_history(one), strict=True):
        timeless = {name: value for name, value in point.items() if "second" not in name}
        expected = {name: like[name] for name in timeless}
        assert timeless == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "learning_rate"), [("adapter", 3e-3), ("full", 1e-4)])
def test_reward_model_on_two_processes_equals_one(
    method: Literal["adapter", "full"],
    learning_rate: float,
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    two: Callable[[], None],
) -> None:
    """Of its 60 pairs the last batch of an epoch holds four: all for one process."""
    recipe = RewardModelRecipe(
        method=method,
        learning_rate=learning_rate,
        num_epochs=2,
        batch_size=14,
        max_new_tokens=8,
        num_samples=16,
        log_every_steps=1,
    )
    alone = run(reward_model.train, tokens, domain, assistant, recipe)
    two()
    recipe = recipe.model_copy(update={"batch_size": 7})
    together = run(reward_model.train, tokens, domain, assistant, recipe)
    assert_equal_folders(alone.path, together.verify().path, REWARD_TOLERANCE)
    assert together.facts.figures == pytest.approx(alone.facts.figures, rel=1e-3, abs=1e-4)
    assert together.facts.score_std == pytest.approx(alone.facts.score_std, rel=1e-2)


@pytest.mark.slow
def test_self_critique_on_two_processes_equals_one(
    tokens: Tokens, domain: BaseModel, assistant: Policy, two: Callable[[], None], tmp_path: Path
) -> None:
    file = tmp_path / "constitution.yaml"
    file.write_text(CONSTITUTION, encoding="utf-8")
    recipe = SelfCritiqueRecipe(
        constitution=str(file),
        learning_rate=1e-3,
        num_epochs=2,
        batch_size=10,
        max_new_tokens=16,
        no_fault_markers=("fine",),
        num_samples=2,
        instruction_share=0.5,
        own_answers_share=0.25,
        instruction_kinds=("critique",),
        log_every_steps=1,
    )
    alone, revisions = run(self_critique.train, tokens, domain, assistant, assistant, recipe)
    two()
    recipe = recipe.model_copy(update={"batch_size": 5})
    together, again = run(self_critique.train, tokens, domain, assistant, assistant, recipe)
    assert_equal_folders(alone.path, together.verify().path, TOLERANCE)
    assert again.verify().facts == revisions.facts


@pytest.mark.slow
def test_alignment_19_ppo_on_two_processes_equals_one(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    reward: RewardModel,
    two: Callable[[], None],
) -> None:
    """Rows of a rollout and of its minibatches are shared; rewards and whitening are global."""
    recipe = PpoRecipe(
        num_iterations=3,
        batch_size=13,  # not a multiple: one process has a row more
        num_minibatches=3,
        learning_rate=1e-3,
        max_new_tokens=12,
        temperature=0.7,
        num_held_out=16,
        held_out_set="revision",
        target_kl=0.5,
    )
    alone = run(ppo.train, tokens, domain, assistant, reward, recipe)
    two()
    together = run(ppo.train, tokens, domain, assistant, reward, recipe)
    assert_equal_folders(alone.path, together.verify().path, TOLERANCE)
    assert together.facts.figures == pytest.approx(alone.facts.figures, rel=1e-3, abs=1e-4)
