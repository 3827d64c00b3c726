"""A second round of PPO: from the aligned policy, against it, and measured by both scores."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from posttrain.align import ppo
from posttrain.align.rollout import REFERENCE, load_actors
from posttrain.align.rows import sampling_by
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.evaluate.alignment import measure
from posttrain.models.adapters import adapter_weights
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.ppo import PpoRecipe

RECIPE = PpoRecipe(
    num_iterations=2,
    batch_size=16,
    learning_rate=1e-3,
    max_new_tokens=8,
    held_out_set="revision",
    num_held_out=16,
)
EVALUATION = EvaluationRecipe(window=64, stride=32, num_bootstrap=20)


@pytest.fixture
def aligned(assistant: Policy, tmp_path: Path) -> Policy:
    """What self-critique would hand over: another adapter than SFT's."""
    folder = tmp_path / "aligned"
    shutil.copytree(assistant.path, folder)
    return Policy.write(folder, "self_critique", assistant.facts)


@pytest.fixture
def second(tokens: Tokens, domain: BaseModel, aligned: Policy, reward: RewardModel) -> Policy:
    return ppo.train(tokens, domain, aligned, reward, RECIPE, stage="rlaif")


def test_it_is_its_own_stage(second: Policy) -> None:
    assert second.verify().made_by("rlaif").facts.figures["iterations"] == 2
    with pytest.raises(ValueError, match="a policy made by 'rlaif'; one made by 'ppo' is wanted"):
        second.made_by("ppo")


def test_its_reference_is_the_aligned_policy(
    domain: BaseModel, aligned: Policy, reward: RewardModel
) -> None:
    sampling = sampling_by(load_tokenizer(domain), RECIPE)
    model = load_actors(domain, aligned, reward, sampling, RECIPE).model
    kept = load_file(aligned.path / "adapter" / "adapter_model.safetensors")
    for name, weight in adapter_weights(model, REFERENCE).items():
        assert weight.equal(kept[name.replace(f".{REFERENCE}.weight", ".weight")])


def test_a_policy_of_ppo_is_no_start_of_a_round(
    tokens: Tokens, domain: BaseModel, second: Policy, reward: RewardModel
) -> None:
    with pytest.raises(ValueError, match="made by 'rlaif'; one made by 'sft' or 'self_critique'"):
        ppo.train(tokens, domain, second, reward, RECIPE)


def test_both_reward_models_score_the_same_answers_of_every_stage(
    tokens: Tokens, domain: BaseModel, assistant: Policy, second: Policy, reward: RewardModel
) -> None:
    rewards = {"mean_score": reward, "rlaif_score": reward}
    figures, scored = measure(
        tokens, domain, {"sft": assistant, "rlaif": second}, rewards, RECIPE, EVALUATION
    )
    assert set(figures["sft"]) == {"mean_score", "score_std", "rlaif_score", "rlaif_score_std"}
    assert set(figures["rlaif"]) == {*figures["sft"], "kl_to_sft"}
    for found in figures.values():  # one and the same model here: the answers are the same
        assert found["rlaif_score"].value == pytest.approx(found["mean_score"].value, abs=1e-5)
        assert found["rlaif_score_std"].value == pytest.approx(found["score_std"].value, abs=1e-5)
    assert [one.stage for one in scored] == ["sft", "rlaif"]
