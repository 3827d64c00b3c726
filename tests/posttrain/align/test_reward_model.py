"""The reward model's stage on a tiny world: what it learns, writes, refuses and resumes."""

import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close

from posttrain.align import reward_model
from posttrain.align.forward import pad_right
from posttrain.align.judge import REWARD, Judge
from posttrain.align.reward_model import PairCollator, RewardTrainer, check_splits
from posttrain.align.rows import Pair, read_pairs
from posttrain.align.score import load_scorer, new_head, raw_scores
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.models.load import attach, load_base
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.tracking import Curves, read_history
from posttrain.train.checkpoints import Checkpoints

END = (1,)
RECIPE = RewardModelRecipe(
    learning_rate=1e-2,
    num_epochs=2,
    batch_size=20,
    max_new_tokens=8,
    num_samples=16,
    log_every_steps=2,
    checkpoint_every_steps=2,
)


def test_it_learns_a_separable_preference(reward: RewardModel) -> None:
    facts = reward.facts
    assert facts.accuracy > 0.9
    assert set(facts.by_kind) == {"order", "other"}
    assert facts.figures["accuracy_equal_length"] > 0.9
    assert facts.figures["margin_mean"] > 1
    assert {"calibration_error", "length_correlation", "num_equal_length"} <= facts.figures.keys()
    assert facts.score_std > 0


def test_its_curve_tells_loss_accuracy_and_margin(reward: RewardModel) -> None:
    curve = read_history(reward.path)
    assert {"loss", "accuracy", "margin", "grad_norm"} <= curve[0].keys()
    assert (curve[-1]["accuracy"] or 0) > 0.9


def test_alignment_12_scores_before_saving_and_after_loading_are_equal(
    tokens: Tokens, domain: BaseModel, assistant: Policy, tmp_path: Path
) -> None:
    pairs, _ = read_pairs(tokens, "train", END)
    judge = new_judge(domain, assistant)
    checkpoints = Checkpoints(tmp_path)
    trainer = RewardTrainer(judge, pairs, RECIPE, checkpoints, pad_id=0)
    trainer.run(RECIPE, checkpoints, Curves(tmp_path, "reward_model"))
    judge.eval()
    ids_BS, mask_BS = pad_right([[*pair.prompt, *pair.chosen] for pair in pairs[:8]], 0, CPU)
    before_B = judge(ids_BS, mask_BS).detach()
    judge.save(tmp_path)
    fresh = new_judge(domain, assistant)
    fresh.load(tmp_path)
    fresh.eval()
    assert_close(fresh(ids_BS, mask_BS).detach(), before_B, rtol=0, atol=1e-5)
    assert before_B.unique().numel() == 8


def test_an_infinite_loss_whose_gradient_is_finite_names_its_row(
    tokens: Tokens, domain: BaseModel, assistant: Policy, tmp_path: Path
) -> None:
    """A margin that no score can reach: the gradient of its loss is 1."""
    pairs, _ = read_pairs(tokens, "train", END)
    bad = replace(pairs[7], margin=math.inf)
    recipe = RECIPE.model_copy(update={"batch_size": 1, "checkpoint_every_steps": 1})
    checkpoints = Checkpoints(tmp_path)
    pairs = [*pairs[:4], bad, *pairs[8:12]]
    trainer = RewardTrainer(new_judge(domain, assistant), pairs, recipe, checkpoints, pad_id=0)
    told = rf"reward_model step \d+: the loss is .*: batch 1 of 1 \(loss inf\): rows {bad.id} \("
    with pytest.raises(FloatingPointError, match=told):
        trainer.run(recipe, checkpoints, Curves(tmp_path, "reward_model"))


CPU = torch.device("cpu")


def new_judge(domain: BaseModel, assistant: Policy) -> Judge:
    model = attach(load_base(domain), assistant, domain, REWARD, trainable=True)
    return Judge(model, new_head(model))


def test_it_starts_from_the_sft_adapter_and_a_head_of_zero(
    domain: BaseModel, assistant: Policy
) -> None:
    judge = new_judge(domain, assistant)
    ids_BS, mask_BS = pad_right([[5, 6, 1]], 0, CPU)
    assert not judge(ids_BS, mask_BS).any()
    sft = attach(load_base(domain), assistant, domain, "sft", trainable=False)
    for model in (judge.model, sft):
        assert isinstance(model, PeftModel)
    head = new_head(sft)
    torch.nn.init.normal_(head.linear.weight)
    scores = [raw_scores(model, head, ids_BS, mask_BS) for model in (judge.model, sft)]
    assert_close(*scores, rtol=0, atol=0)


def test_alignment_10_both_sides_of_a_pair_are_in_one_batch() -> None:
    pairs = [Pair("k", [5], [6, 1], [7, 8, 1], 0.5), Pair("k", [5, 9], [1], [7, 1], 0.0)]
    batch = PairCollator(pad_id=0)(pairs)
    assert batch["input_ids"].tolist() == [[5, 6, 1, 0], [5, 9, 1, 0], [5, 7, 8, 1], [5, 9, 7, 1]]
    assert batch["attention_mask"].sum(-1).tolist() == [3, 3, 4, 4]
    assert batch["margin"].tolist() == [0.5, 0.0]
    assert batch["preferred"].tolist() == [1.0, 1.0]  # people are sure


def test_alignment_13_a_prompt_in_both_splits_is_refused() -> None:
    pair = Pair("k", [5], [6, 1], [7, 1], 0.0)
    with pytest.raises(ValueError, match="1 prompts are in both splits"):
        check_splits([pair], [pair])


def preference(number: int, chosen: list[int], rejected: list[int]) -> dict[str, object]:
    split = {"id": f"p{number}", "kind": "k", "group": "g", "split": "train", "margin": None}
    return {**split, "prompt_ids": [5, 6], "chosen_ids": chosen, "rejected_ids": rejected}


def write(folder: Path, rows: list[dict[str, object]], tokens: Tokens) -> Tokens:
    pq.write_table(pa.Table.from_pylist(rows), folder / "preferences.parquet")
    return Tokens.write(folder, "tokenize", tokens.facts)


def test_alignment_13_identical_sides_are_dropped_and_counted(
    tokens: Tokens, tmp_path: Path
) -> None:
    """Gemma's template puts a line break behind the end token: what follows the end is cut."""
    rows = [preference(1, [7, 1, 9], [7, 1]), preference(2, [8, 1, 9], [7, 1, 9])]
    pairs, num_same = read_pairs(write(tmp_path, rows, tokens), "train", END)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [([8, 1], [7, 1])]
    assert num_same == 1


def test_responses_without_an_end_token_are_refused(tokens: Tokens, tmp_path: Path) -> None:
    rows = [preference(1, [7, 9], [7, 1]), preference(2, [8, 1], [7, 1])]
    with pytest.raises(ValueError, match="1 of 2 chosen responses have no end token"):
        read_pairs(write(tmp_path, rows, tokens), "train", END)


def test_a_missing_split_is_named(tokens: Tokens, tmp_path: Path) -> None:
    rows = [preference(1, [7, 1], [8, 1])]
    with pytest.raises(ValueError, match=r"'held_out'.*found: .*'train'"):
        read_pairs(write(tmp_path, rows, tokens), "held_out", END)


def test_an_interrupted_run_ends_in_the_same_bytes(
    tokens: Tokens, domain: BaseModel, assistant: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reward_model.train(tokens, domain, assistant, RECIPE)

    def killed(self: RewardTrainer, *_: object, **__: object) -> torch.Tensor:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return loss(self, *_, **__)

    loss = RewardTrainer.compute_loss
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RewardTrainer, "compute_loss", killed)
        reward_model.train(tokens, domain, assistant, RECIPE)
    resumed = reward_model.train(tokens, domain, assistant, RECIPE)
    for file in ("adapter/adapter_model.safetensors", "score.safetensors"):
        assert (resumed.path / file).read_bytes() == (whole.path / file).read_bytes()
    assert resumed.facts.score_mean == whole.facts.score_mean


def test_a_written_reward_model_verifies_and_loads(reward: RewardModel, domain: BaseModel) -> None:
    scorer = load_scorer(load_base(domain), reward.verify(), domain, pad_id=0)
    assert scorer.mean == reward.facts.score_mean
    assert not any(weight.requires_grad for weight in scorer.head.parameters())
