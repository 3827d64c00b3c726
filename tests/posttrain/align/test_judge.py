"""A reward model with weights of its own: start, training, saving, and how PPO holds it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close

from posttrain.align import ppo, reward_model
from posttrain.align.forward import hidden_states, pad_right
from posttrain.align.judge import Judge, new_judge
from posttrain.align.reward_model import RewardTrainer
from posttrain.align.rollout import load_actors
from posttrain.align.rows import pad_id, read_pairs, sampling_by
from posttrain.align.score import load_scorer
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.models.load import load_base, load_policy
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe

END = (1,)
CPU = torch.device("cpu")
RECIPE = RewardModelRecipe(
    method="full",
    learning_rate=2e-3,
    num_epochs=8,
    batch_size=20,
    max_new_tokens=8,
    num_samples=16,
    log_every_steps=2,
    checkpoint_every_steps=2,
)
PPO = PpoRecipe(
    num_iterations=1,
    batch_size=8,
    learning_rate=1e-3,
    max_new_tokens=8,
    temperature=0.7,
    num_held_out=8,
    held_out_set="revision",
    value_init="sft",
)


@pytest.fixture(scope="module")
def whole(
    tokens: Tokens, domain: BaseModel, assistant: Policy, tmp_path_factory: Any
) -> Iterator[tuple[RewardModel, Judge]]:
    """The artifact, and the judge in memory that was written."""
    folder = tmp_path_factory.mktemp("whole")
    kept: list[Judge] = []
    write = reward_model.write

    def keep(folder: Path, stage: str, judge: Judge, facts: Any) -> RewardModel:
        kept.append(judge)
        return write(folder, stage, judge, facts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_model, "write", keep)
        patch.setenv("POSTTRAIN_WORK", str(folder / "work"))
        patch.setenv("POSTTRAIN_CHECKPOINTS", str(folder / "checkpoints"))
        yield reward_model.train(tokens, domain, assistant, RECIPE), kept[0]


def test_it_learns_with_all_weights_and_says_so(whole: tuple[RewardModel, Judge]) -> None:
    facts = whole[0].facts
    assert facts.accuracy > 0.9
    assert (facts.method, facts.quantization, facts.num_adapted_modules) == ("full", None, 0)
    assert facts.num_trainable == sum(weight.numel() for weight in whole[1].parameters())
    names = {file.relative_to(whole[0].path).parts[0] for file in whole[0].path.rglob("*.saf*")}
    assert names == {"weights", "score.safetensors"}


def test_it_starts_as_the_base_with_sft_merged_in(domain: BaseModel, assistant: Policy) -> None:
    judge = new_judge(domain, assistant, RECIPE)
    assert {weight.dtype for weight in judge.parameters()} == {torch.float32}
    assert all(weight.requires_grad for weight in judge.parameters())
    ids_BS, mask_BS = pad_right([[5, 6, 1], [7, 8, 9, 1]], 0, CPU)
    with torch.no_grad():
        assert not judge(ids_BS, mask_BS).any()
        found = hidden_states(judge.model, ids_BS)
        sft = hidden_states(load_policy(domain, assistant), ids_BS)
        base = hidden_states(load_base(domain), ids_BS)
    assert_close(found, sft, rtol=0, atol=1e-5)
    assert not torch.allclose(found, base, atol=1e-2)


def test_alignment_12_scores_of_whole_weights_are_equal_before_saving_and_on_ppos_path(
    whole: tuple[RewardModel, Judge], tokens: Tokens, domain: BaseModel, assistant: Policy
) -> None:
    reward, judge = whole
    pairs, _ = read_pairs(tokens, "train", END)
    rows = [[*pair.prompt, *pair.chosen] for pair in pairs[:8]]
    tokenizer = load_tokenizer(domain)
    before = judge.scorer(pad_id(tokenizer)).scores(rows, 4) - reward.facts.score_mean
    assert before.unique().numel() == 8
    base = load_base(domain)
    loaded = load_scorer(base, reward, domain, pad_id(tokenizer)).scores(rows, 4)
    actors = load_actors(domain, assistant, reward, sampling_by(tokenizer, PPO), PPO)
    assert_close(loaded, before, rtol=0, atol=1e-5)
    assert_close(actors.scorer.scores(rows, 4), before, rtol=0, atol=1e-5)
    assert actors.scorer.model is not actors.model
    assert not any(weight.requires_grad for weight in actors.scorer.model.parameters())
    assert "reward" not in actors.model.peft_config


def test_alignment_12_weights_that_are_not_whole_are_refused(
    whole: tuple[RewardModel, Judge], domain: BaseModel, tmp_path: Path
) -> None:
    reward, judge = whole
    judge.save(tmp_path)
    state = judge.model.state_dict()
    state.popitem()
    judge.model.save_pretrained(tmp_path / "weights", state_dict=state)
    broken = RewardModel.write(tmp_path, "reward_model", reward.facts)
    with pytest.raises(ValueError, match="its weights differ from the model's in"):
        load_scorer(load_base(domain), broken, domain, 0)


def test_alignment_07_it_is_judged_at_the_precision_that_it_is_loaded_at(
    domain: BaseModel, assistant: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = new_judge(domain, assistant, RECIPE)
    frequencies = [b.clone() for name, b in judge.named_buffers() if "inv_freq" in name]
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    scorer = judge.scorer(0)
    assert {weight.dtype for weight in scorer.model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in scorer.head.parameters()} == {torch.float32}
    kept = [b for name, b in judge.named_buffers() if "inv_freq" in name]
    for ours, before in zip(kept, frequencies, strict=True):
        assert torch.equal(ours, before)


def test_alignment_21_the_value_function_starts_from_sft_with_a_zero_head(
    whole: tuple[RewardModel, Judge], domain: BaseModel, assistant: Policy
) -> None:
    sampling = sampling_by(load_tokenizer(domain), PPO)
    actors = load_actors(domain, assistant, whole[0], sampling, PPO)
    assert not actors.value_head.linear.weight.any()
    assert isinstance(actors.model, PeftModel)
    from_reward = PPO.model_copy(update={"value_init": "reward_model"})
    with pytest.raises(ValueError, match=r"full weights.*set ppo\.value_init to 'sft'"):
        load_actors(domain, assistant, whole[0], sampling, from_reward)


def test_ppo_learns_from_it(
    whole: tuple[RewardModel, Judge], tokens: Tokens, domain: BaseModel, assistant: Policy
) -> None:
    policy = ppo.train(tokens, domain, assistant, whole[0], PPO)
    assert policy.facts.method == "lora"
    assert policy.facts.figures["iterations"] == 1


def test_an_interrupted_run_ends_in_the_same_bytes(
    tokens: Tokens, domain: BaseModel, assistant: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.model_copy(update={"num_epochs": 2})
    uninterrupted = reward_model.train(tokens, domain, assistant, recipe)

    def killed(self: RewardTrainer, *_: object, **__: object) -> torch.Tensor:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return loss(self, *_, **__)

    loss = RewardTrainer.compute_loss
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RewardTrainer, "compute_loss", killed)
        reward_model.train(tokens, domain, assistant, recipe)
    resumed = reward_model.train(tokens, domain, assistant, recipe)
    for file in ("weights/model.safetensors", "score.safetensors"):
        assert (resumed.path / file).read_bytes() == (uninterrupted.path / file).read_bytes()
