"""The arithmetic of alignment against numbers worked by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from posttrain.align import losses

# Two answers: three tokens and two, padded to three.
MASK_BT = torch.tensor([[True, True, True], [True, True, False]])
VALUES_BT = torch.tensor([[0.5, 1.0, -0.5], [0.25, 0.75, 99.0]])
LOG_PROB_BT = torch.tensor([[-1.0, -2.0, -0.5], [-1.5, -0.25, 99.0]])
REFERENCE_BT = torch.tensor([[-1.5, -1.0, -0.5], [-1.0, -0.75, -99.0]])


def test_masked_mean_ignores_padding_that_is_nan() -> None:
    values_BT = VALUES_BT.masked_fill(~MASK_BT, math.nan)
    assert_close(losses.masked_mean(values_BT, MASK_BT), torch.tensor(0.4))  # 2.0 / 5


def test_alignment_19_whitened_advantages_have_mean_0_and_variance_1_over_real_tokens() -> None:
    whitened_BT = losses.whiten(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 1e6]]), MASK_BT)
    unit = math.sqrt(0.5)  # deviations -2 -1 0 1 2, variance 2
    expected_BT = torch.tensor([[-2 * unit, -unit, 0.0], [unit, 2 * unit, 0.0]])
    assert_close(whitened_BT, expected_BT)


def test_alignment_17_log_prob_is_of_the_sampled_token() -> None:
    logits_NV = torch.tensor([[math.log(1), math.log(3)], [math.log(9), math.log(1)]])
    log_prob_N = losses.token_log_probs(logits_NV, torch.tensor([1, 1]), 1.0)
    entropy_N = losses.entropies(logits_NV, 1.0)
    assert_close(log_prob_N, torch.tensor([math.log(0.75), math.log(0.1)]))
    expected = [-(0.25 * math.log(0.25) + 0.75 * math.log(0.75))]
    expected += [-(0.9 * math.log(0.9) + 0.1 * math.log(0.1))]
    assert_close(entropy_N, torch.tensor(expected))


def test_alignment_15_temperature_divides_the_logits() -> None:
    logits_NV = torch.tensor([[math.log(1), math.log(9)]])  # at temperature 2: 1 to 3
    log_prob_N = losses.token_log_probs(logits_NV, torch.tensor([1]), 2.0)
    assert_close(log_prob_N, torch.tensor([math.log(0.75)]))


def test_alignment_19_rewards_are_kl_a_token_and_the_score_on_the_last_real_one() -> None:
    rewards_BT = losses.penalised_rewards(
        torch.tensor([2.0, -1.0]), LOG_PROB_BT, REFERENCE_BT, MASK_BT, kl_coef=0.1
    )
    assert_close(rewards_BT, torch.tensor([[-0.05, 0.1, 2.0], [0.05, -1.05, 0.0]]))


def test_alignment_19_gae_of_two_sequences_by_hand() -> None:
    rewards_BT = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 55.0]])
    advantages_BT = losses.gae(rewards_BT, VALUES_BT, MASK_BT, gamma=0.9, lambda_=0.5)
    # row 1: deltas 0+.9*1-.5 = .4; 0+.9*-.5-1 = -1.45; 1-(-.5) = 1.5
    #        advantages 1.5; -1.45+.45*1.5 = -.775; .4+.45*-.775 = .05125
    # row 2: deltas 0+.9*.75-.25 = .425; 2-.75 = 1.25; advantages 1.25; .425+.45*1.25 = .9875
    assert_close(advantages_BT, torch.tensor([[0.05125, -0.775, 1.5], [0.9875, 1.25, 0.0]]))


def test_gae_with_gamma_and_lambda_1_is_the_return_less_the_value() -> None:
    rewards_BT = torch.tensor([[0.5, 0.0, 1.0], [0.0, 2.0, 0.0]])
    advantages_BT = losses.gae(rewards_BT, VALUES_BT, MASK_BT, gamma=1.0, lambda_=1.0)
    assert_close(advantages_BT, torch.tensor([[1.0, 0.0, 1.5], [1.75, 1.25, 0.0]]))


def test_alignment_20_policy_loss_clips_only_what_would_move_further() -> None:
    ratio_N = torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5])
    advantage_N = torch.tensor([2.0, 1.0, -1.0, 1.0, -1.0])
    loss_N = losses.policy_loss(ratio_N.log(), torch.zeros(5), advantage_N, clip_range=0.2)
    assert_close(loss_N, torch.tensor([-2.0, -1.2, 1.5, -0.5, 0.8]))
    share = losses.clipped_share(ratio_N.log(), torch.zeros(5), advantage_N, clip_range=0.2)
    assert_close(share, torch.tensor(0.4))


def test_alignment_20_value_loss_takes_the_worse_of_clipped_and_unclipped() -> None:
    loss_N = losses.value_loss(
        torch.tensor([1.0, 0.1]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0]), clip_range=0.3
    )
    assert_close(loss_N, torch.tensor([0.5 * 0.49, 0.5 * 0.81]))


def test_alignment_10_bradley_terry_equals_its_formula() -> None:
    loss = losses.bradley_terry(
        torch.tensor([2.0, 0.5]),
        torch.tensor([0.5, 1.0]),
        torch.tensor([0.5, 0.0]),
        torch.ones(2),
        center_coef=0.01,
    )
    by_hand = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(0.5))) / 2
    by_hand += 0.01 * (2.5**2 + 1.5**2) / 2
    assert_close(loss, torch.tensor(by_hand))


def test_alignment_32_a_soft_label_makes_it_a_cross_entropy() -> None:
    gap = torch.tensor([1.5], requires_grad=True)
    loss = losses.bradley_terry(gap, torch.zeros(1), torch.zeros(1), torch.tensor([0.8]), 0.0)
    # 0.8 x -log sigmoid(1.5) + 0.2 x -log sigmoid(-1.5)
    by_hand = 0.8 * math.log(1 + math.exp(-1.5)) + 0.2 * math.log(1 + math.exp(1.5))
    assert_close(loss, torch.tensor(by_hand))
    (slope,) = torch.autograd.grad(loss, gap)
    assert_close(slope, torch.tensor([1 / (1 + math.exp(-1.5)) - 0.8]))  # 0 where it is calibrated


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(6.0, 0.1), (60.0, 0.1 * (1 + 0.2 * 0.064)), (0.0, 0.1 * (1 - 0.2 * 0.064)), (6.6, 0.10064)],
)
def test_alignment_22_kl_coefficient_follows_its_target(kl: float, expected: float) -> None:
    assert losses.adapted_kl_coef(0.1, kl, 6.0, 64, 1_000) == pytest.approx(expected)


def test_kl_from_samples_is_zero_for_equal_policies_and_never_negative() -> None:
    old_N = torch.tensor([-1.0, -2.0])
    assert losses.kl_from_samples(old_N, old_N) == 0
    # log ratios 1 and -1: (e - 1 - 1 + 1/e - 1 + 1) / 2
    moved = losses.kl_from_samples(torch.tensor([0.0, -3.0]), old_N)
    assert_close(moved, torch.tensor((math.e + 1 / math.e - 2) / 2))


def test_explained_variance_is_1_for_the_returns_and_0_for_a_constant() -> None:
    returns_N = torch.tensor([1.0, 2.0, 4.0])
    assert losses.explained_variance(returns_N, returns_N) == 1
    assert_close(losses.explained_variance(torch.full((3,), 7.0), returns_N), torch.tensor(0.0))
