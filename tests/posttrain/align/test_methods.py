"""Alignment by every method of adaptation: the roles stand on one base, and each of them learns."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from posttrain.align import ppo, reward_model, self_critique
from posttrain.align.ppo_update import Learned, adam, update_policy
from posttrain.align.rollout import POLICY, Actors, load_actors, roll_out
from posttrain.align.rows import pad_id, read_prompts
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.contract import trained_on
from posttrain.data.chat import end_tokens
from posttrain.facts import PolicyFacts
from posttrain.models.adapters import adapter_weights, count_adapted, save_adapter
from posttrain.models.generate import Sampling
from posttrain.models.load import load_policy
from posttrain.models.quantize import quantization_of
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, Method
from posttrain.tracking import read_history
from posttrain.train import sft

REWARD = RewardModelRecipe(
    learning_rate=1e-2,
    num_epochs=12,
    batch_size=20,
    max_new_tokens=8,
    num_samples=16,
    log_every_steps=4,
)
PPO = PpoRecipe(
    num_iterations=2,
    batch_size=12,
    forward_batch_size=5,
    learning_rate=1e-3,
    max_new_tokens=12,
    temperature=0.7,
    num_held_out=16,
    held_out_set="revision",
)
CONSTITUTION = """
principles:
- id: red
  principle: {ko: 빨강은 안 됩니다, en: no red}
  critique_request: {ko: "what is wrong ?", en: "what is wrong ?"}
  revision_request: {ko: "mend it .", en: "mend it ."}
"""


@dataclass(frozen=True)
class World:
    """What one method's SFT and reward model hand to the stages after them."""

    method: Method
    assistant: Policy
    reward: RewardModel


@pytest.fixture(scope="module", params=["qlora", "dora", "bottleneck"])
def world(
    request: pytest.FixtureRequest,
    tokens: Tokens,
    domain: BaseModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("work", "checkpoints", "cache"):
            patch.setenv(f"POSTTRAIN_{name.upper()}", str(folder / name))
        assistant = assistant_by(request.param, domain, folder / "assistant")
        reward = reward_model.train(tokens, domain, assistant, REWARD)
    return World(request.param, assistant, reward)


def assistant_by(method: Method, domain: BaseModel, folder: Path) -> Policy:
    """An adapter that differs from the base a little."""
    recipe = SftRecipe(
        method=method,
        learning_rate=1e-3,
        num_epochs=1,
        batch_size=2,
        lora=LoraRecipe(rank=4, alpha=8),
        bottleneck=BottleneckRecipe(size=8),
    )
    torch.manual_seed(1)
    model = sft.to_train(domain, recipe)
    for name, weight in adapter_weights(model, sft.ADAPTER).items():
        if "lora_B" in name or "bottleneck_up" in name:
            torch.nn.init.normal_(weight, std=0.02)
    save_adapter(model, sft.ADAPTER, folder / "adapter")
    num_modules, num_trainable = count_adapted(model, sft.ADAPTER)
    facts = PolicyFacts(
        trained_on=trained_on(domain),
        method=method,
        quantization=quantization_of(model),
        num_trainable=num_trainable,
        num_adapted_modules=num_modules,
        recipe={},
        figures={},
    )
    return Policy.write(folder, "sft", facts)


def actors_of(world: World, domain: BaseModel) -> Actors:
    tokenizer = load_tokenizer(domain)
    sampling = Sampling(
        max_new_tokens=PPO.max_new_tokens,
        temperature=PPO.temperature,
        end_ids=end_tokens(tokenizer),
        pad_id=pad_id(tokenizer),
        batch_size=PPO.generation_batch_size,
        seed=0,
    )
    return load_actors(domain, world.assistant, world.reward, sampling, PPO)


def weights(policy: Policy | RewardModel) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        policy.path / "adapter" / "adapter_model.safetensors"
    )
    return found


def test_the_reward_model_is_of_sfts_method_and_learns(world: World) -> None:
    facts = world.reward.facts
    assert facts.method == world.method
    assert facts.quantization == world.assistant.facts.quantization
    assert weights(world.reward).keys() == weights(world.assistant).keys()
    curve = read_history(world.reward.path)
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    assert facts.accuracy > 0.7


def test_alignment_18_identities_at_step_0(world: World, tokens: Tokens, domain: BaseModel) -> None:
    actors = actors_of(world, domain)
    prompts = [prompt.ids for prompt in read_prompts(tokens, "rollout")][:8]
    rollout = roll_out(actors, prompts, 0, POLICY)
    assert_close(rollout.log_prob_BT, rollout.reference_BT, rtol=0, atol=0)
    before = {name: weight.clone() for name, weight in actors.model.named_parameters()}
    learned = Learned(1, rollout, rollout.log_prob_BT, rollout.value_BT)
    figures = update_policy(actors, learned, range(8), adam(actors.policy_weights, PPO), PPO)
    assert figures is not None
    assert figures["ratio"] == pytest.approx(1, abs=1e-4)
    assert figures["grad_norm"] > 0
    moved = {n for n, w in actors.model.named_parameters() if not torch.equal(w, before[n])}
    assert moved == set(adapter_weights(actors.model, POLICY))


def test_ppo_trains_a_policy_of_the_same_method(
    world: World, tokens: Tokens, domain: BaseModel
) -> None:
    trained = ppo.train(tokens, domain, world.assistant, world.reward, PPO)
    assert trained.facts.method == world.method
    assert trained.facts.quantization == world.assistant.facts.quantization
    assert {tensor.dtype for tensor in weights(trained).values()} == {torch.float32}
    before = weights(world.assistant)
    assert any(not torch.equal(tensor, before[key]) for key, tensor in weights(trained).items())
    assert read_history(trained.path)[0]["kl"] == 0
    load_policy(domain, trained)


def test_self_critique_trains_on_from_it(
    world: World, tokens: Tokens, domain: BaseModel, tmp_path: Path
) -> None:
    file = tmp_path / "constitution.yaml"
    file.write_text(CONSTITUTION, encoding="utf-8")
    recipe = SelfCritiqueRecipe(
        constitution=str(file),
        learning_rate=5e-3,
        num_epochs=1,
        batch_size=8,
        max_new_tokens=16,
        no_fault_markers=("fine",),
        num_samples=1,
        instruction_share=0.5,
        own_answers_share=0.25,
        instruction_kinds=("critique",),
    )
    aligned, _ = self_critique.train(tokens, domain, world.assistant, world.assistant, recipe)
    assert aligned.facts.method == world.method
    assert aligned.facts.quantization == world.assistant.facts.quantization
    load_policy(domain, aligned)


def test_gradient_checkpointing_changes_no_reward_model(
    world: World, tokens: Tokens, domain: BaseModel
) -> None:
    found = []
    for on in (False, True):
        recipe = REWARD.model_copy(update={"gradient_checkpointing": on, "max_steps": 3})
        found.append(reward_model.train(tokens, domain, world.assistant, recipe))
    without, with_it = map(weights, found)
    for key, tensor in without.items():
        assert_close(with_it[key], tensor, rtol=0, atol=1e-6)
