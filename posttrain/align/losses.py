"""The arithmetic of alignment: losses, advantages, penalties. Pure functions of tensors.

No model, no optimizer, no state. What is written for real tokens alone takes them flat, so that
padding cannot enter.

Shapes: B sequences, T response positions, N real response tokens of a batch (flat), V vocabulary.
`mask_BT` is True on real tokens, the end token included.
"""

import torch
from torch import Tensor
from torch.nn import functional

KL_ERROR_CLIP = 0.2  # Ziegler et al. 2019, section 2.2
WHITEN_EPSILON = 1e-8


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over real positions; what stands in the others, NaN included, has no part in it."""
    return values_BT.masked_fill(~mask_BT, 0.0).sum() / mask_BT.sum()


def whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over real positions; the others become 0."""
    centred_BT = values_BT - masked_mean(values_BT, mask_BT)
    variance = masked_mean(centred_BT.square(), mask_BT)
    return (centred_BT * torch.rsqrt(variance + WHITEN_EPSILON)).masked_fill(~mask_BT, 0.0)


def token_log_probs(logits_NV: Tensor, token_N: Tensor, temperature: float) -> Tensor:
    """Log-probability of each given token, in nats.

    Of the distribution that is sampled from: the softmax of logits / temperature.
    """
    return -functional.cross_entropy(_scaled(logits_NV, temperature), token_N, reduction="none")


@torch.no_grad()
def entropies(logits_NV: Tensor, temperature: float) -> Tensor:
    """Entropy of the distribution that is sampled from, in nats."""
    log_probs_NV = _scaled(logits_NV, temperature).log_softmax(-1)
    return -(log_probs_NV.exp() * log_probs_NV).sum(-1)


def _scaled(logits_NV: Tensor, temperature: float) -> Tensor:
    logits_NV = logits_NV.float()
    return logits_NV if temperature == 1 else logits_NV / temperature


def penalised_rewards(
    score_B: Tensor, log_prob_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor, kl_coef: float
) -> Tensor:
    """-beta x KL a token, and the score on the last real token (Ziegler et al. 2019, equation 2).

    KL by its plain estimator k1: log p - log p_ref of the sampled token.
    """
    rewards_BT = (-kl_coef * (log_prob_BT - reference_BT)).masked_fill(~mask_BT, 0.0)
    last_B1 = mask_BT.sum(-1, keepdim=True) - 1
    return rewards_BT.scatter_add(-1, last_B1, score_B[:, None])


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lambda_: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16); 0 on padding.

    The state after the last real token is terminal: its value is 0.
    """
    values_BT = values_BT.masked_fill(~mask_BT, 0.0)
    advantages_BT = torch.zeros_like(values_BT)
    following_B = next_value_B = torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        following_B = torch.where(mask_BT[:, t], delta_B + gamma * lambda_ * following_B, 0.0)
        next_value_B = values_BT[:, t]
        advantages_BT[:, t] = following_B
    return advantages_BT


def policy_loss(
    log_prob_N: Tensor, old_N: Tensor, advantage_N: Tensor, clip_range: float
) -> Tensor:
    """Clipped surrogate, a token (Schulman et al. 2017, equation 7, negated)."""
    ratio_N = (log_prob_N - old_N).exp()
    clipped_N = ratio_N.clamp(1 - clip_range, 1 + clip_range)
    return torch.maximum(-advantage_N * ratio_N, -advantage_N * clipped_N)


def clipped_share(
    log_prob_N: Tensor, old_N: Tensor, advantage_N: Tensor, clip_range: float
) -> Tensor:
    """Share of tokens whose gradient the clip takes away."""
    ratio_N = (log_prob_N - old_N).exp()
    above_N = (advantage_N > 0) & (ratio_N > 1 + clip_range)
    below_N = (advantage_N < 0) & (ratio_N < 1 - clip_range)
    return (above_N | below_N).float().mean()


def value_loss(value_N: Tensor, old_N: Tensor, return_N: Tensor, clip_range: float) -> Tensor:
    """Half the squared error, the step from the old value clipped, a token (PPO2)."""
    clipped_N = old_N + (value_N - old_N).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((value_N - return_N).square(), (clipped_N - return_N).square())


def kl_from_samples(log_prob_N: Tensor, old_N: Tensor) -> Tensor:
    """KL(old || new) a token from the old policy's samples, by the estimator k3: never negative.

    Schulman 2020, "Approximating KL divergence": r - 1 - log r with r = p_new / p_old.
    """
    log_ratio_N = log_prob_N - old_N
    return (log_ratio_N.expm1() - log_ratio_N).mean()


def explained_variance(values_N: Tensor, returns_N: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns): 1 is perfect, 0 no better than a constant."""
    return 1 - (returns_N - values_N).var(correction=0) / returns_N.var(correction=0)


def bradley_terry(
    chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor, label_B: Tensor, center_coef: float
) -> Tensor:
    """-log sigmoid(chosen - rejected - margin), mean over pairs (Ouyang et al. 2022, equation 1).

    `label_B` is the probability that the chosen side is preferred: 1 for a person's choice, less
    for a judge that is not sure; the loss is then the cross-entropy (Lee et al. 2023, section 3.2).
    The pair's squared sum keeps scores centred without shrinking their difference (Eisenstein et
    al. 2023); margins as in Touvron et al. 2023, section 3.2.2.
    """
    gap_B = chosen_B - rejected_B - margin_B
    right_B, wrong_B = functional.logsigmoid(gap_B), functional.logsigmoid(-gap_B)
    likelihood = (label_B * right_B + (1 - label_B) * wrong_B).mean()
    return center_coef * (chosen_B + rejected_B).square().mean() - likelihood


def adapted_kl_coef(
    kl_coef: float, kl: float, target_kl: float, num_samples: int, horizon: int
) -> float:
    """The next KL coefficient: up where KL is over its target, down where it is under it.

    Ziegler et al. 2019, section 2.2; `horizon` in samples, as in their code.
    """
    error = min(max(kl / target_kl - 1, -KL_ERROR_CLIP), KL_ERROR_CLIP)
    return kl_coef * (1 + error * num_samples / horizon)
