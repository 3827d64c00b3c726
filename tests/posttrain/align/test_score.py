"""The score head: pooling by mask, strict files, and one score on every path."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from posttrain.align.forward import pad_right
from posttrain.align.score import (
    SCORE_FILE,
    ScoreHead,
    last_real,
    load_head,
    load_scorer,
    raw_scores,
    save_head,
)
from posttrain.artifacts import BaseModel, Policy, RewardModel
from posttrain.facts import RewardModelFacts
from posttrain.models.load import attach, load_base

ROWS = [[5, 6, 7, 1], [8, 1], [9, 10, 11, 12, 13, 14, 1]]


def test_alignment_11_the_last_real_token_is_found_whichever_side_is_padded() -> None:
    hidden_BSD = torch.arange(8.0).view(2, 4, 1)
    mask_BS = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])
    assert last_real(hidden_BSD, mask_BS).tolist() == [[1.0], [7.0]]


@pytest.mark.parametrize("pad", [0, 1, 299])
def test_alignment_11_right_padding_does_not_change_a_score(
    reward: RewardModel, domain: BaseModel, pad: int
) -> None:
    """Not even where the pad id is the end token, which transformers' own pooling trips over."""
    scorer = load_scorer(load_base(domain), reward, domain, pad_id=pad)
    alone = torch.cat([scorer.scores([row], 1) for row in ROWS])
    assert_close(scorer.scores(ROWS, 3), alone, rtol=0, atol=1e-5)
    assert alone.unique().numel() == 3


def test_alignment_12_a_score_is_the_same_beside_other_adapters(
    reward: RewardModel, domain: BaseModel, assistant: Policy
) -> None:
    alone = load_scorer(load_base(domain), reward, domain, pad_id=0)
    model = attach(load_base(domain), assistant, domain, "policy", trainable=True)
    model.train()
    beside = load_scorer(model, reward, domain, pad_id=0)
    assert_close(alone.scores(ROWS, 2), beside.scores(ROWS, 2), rtol=0, atol=1e-5)
    assert model.active_adapter == "policy"
    assert model.training


def test_alignment_12_scores_are_raw_scores_less_the_mean_of_sfts_samples(
    reward: RewardModel, domain: BaseModel
) -> None:
    scorer = load_scorer(load_base(domain), reward, domain, pad_id=0)
    ids_BS, mask_BS = pad_right(ROWS, 0, torch.device("cpu"))
    raw_B = raw_scores(scorer.model, scorer.head, ids_BS, mask_BS)
    assert reward.facts.score_mean != 0
    assert_close(scorer.scores(ROWS, 3), raw_B.detach() - reward.facts.score_mean)


def test_a_head_survives_its_file(tmp_path: Path) -> None:
    head, other = ScoreHead(8), ScoreHead(8)
    torch.nn.init.normal_(head.linear.weight)
    save_head(head, tmp_path)
    load_head(other, tmp_path)
    assert_close(other.state_dict(), head.state_dict())


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_alignment_12_a_head_with_wrong_keys_or_shapes_is_refused(
    tmp_path: Path, damage: str
) -> None:
    save_head(ScoreHead(8), tmp_path)
    weights = load_file(tmp_path / SCORE_FILE)
    if damage == "missing":
        del weights["linear.bias"]
    elif damage == "extra":
        weights["score.weight"] = torch.zeros(1, 8)
    else:
        weights["linear.weight"] = torch.zeros(1, 9)
    save_file(weights, tmp_path / SCORE_FILE)
    with pytest.raises(ValueError, match=r"score\.safetensors: holds .* needs"):
        load_head(ScoreHead(8), tmp_path)


def test_alignment_12_a_folder_without_its_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no score\.safetensors"):
        load_head(ScoreHead(8), tmp_path)


def test_a_reward_model_of_another_base_is_refused(
    reward: RewardModel, domain: BaseModel, tmp_path: Path
) -> None:
    facts = reward.facts
    wrong = facts.trained_on.model_copy(update={"base_fingerprint": "0" * 64})
    other = RewardModelFacts.model_validate({**facts.model_dump(), "trained_on": wrong})
    stranger = RewardModel.write(tmp_path, "reward_model", other)
    with pytest.raises(ValueError, match="base fingerprint 000000000000"):
        load_scorer(load_base(domain), stranger, domain, pad_id=0)
