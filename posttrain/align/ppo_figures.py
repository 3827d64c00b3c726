"""What PPO reports: figures an iteration, a check of health, and the verdict on held-out prompts.

Shapes: B answers, T response positions.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from posttrain.align.losses import explained_variance, masked_mean
from posttrain.align.ppo_state import Scale
from posttrain.align.reward_report import correlation, slope
from posttrain.align.rollout import Rollout
from posttrain.recipe.ppo import PpoRecipe
from posttrain.train.finite import listed


def rollout_figures(
    rollout: Rollout, score_B: Tensor, rewards_BT: Tensor, returns_BT: Tensor, scale: Scale
) -> dict[str, float]:
    """Figures of one rollout, before any update on it.

    `score` and `reward` in SFT's standard deviations, `reward` after the KL penalty; `kl` an answer
    and `entropy` a token, in nats; `length_share` of the score is what SFT's own slope of score on
    length gives for the change in length.
    """
    mask_BT = rollout.mask_BT
    longer = float(rollout.length_B.float().mean()) - scale.length
    risen = float(rollout.score_B.mean()) - scale.mean
    return {
        "score": float(score_B.mean()),
        "reward": float(rewards_BT.sum(-1).mean()),
        "kl": float(rollout.kl_B.mean()),
        "entropy": float(masked_mean(rollout.entropy_BT, mask_BT)),
        "explained_variance": float(
            explained_variance(rollout.value_BT[mask_BT], returns_BT[mask_BT])
        ),
        "response_length": float(rollout.length_B.float().mean()),
        "length_share": scale.slope * longer / risen if abs(risen) > 1e-6 else 0.0,
        "repeated_share": repeated_share(rollout.responses),
        "ended_share": float(rollout.ended_B.float().mean()),
        "score_length_correlation": correlation(rollout.score_B, rollout.length_B),
    }


def repeated_share(responses: Sequence[Sequence[int]]) -> float:
    """Mean share of an answer's token pairs that it has used before.

    Welleck et al. 2020, "Neural text generation with unlikelihood training": seq-rep-n with n = 2.
    """
    shares = []
    for response in responses:
        pairs = list(pairwise(response))
        shares.append(1 - len(set(pairs)) / len(pairs) if pairs else 0.0)
    return sum(shares) / len(shares)


def averages(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over the iteration's optimizer steps, and their number; NaN where all were left out."""
    means = {}
    for name in updates[0] if updates else {}:
        # a step that the recipe bears was left out, and has no number
        found = [update[name] for update in updates if math.isfinite(update[name])]
        means[name] = sum(found) / len(found) if found else math.nan
    return {**means, "num_updates": float(len(updates))}


def check_rollout(
    iteration: int, rollout: Rollout, recipe: PpoRecipe, ids: Sequence[str] = ()
) -> None:
    """Stop before the updates on a rollout that has gone wrong.

    Args:
        iteration: of the rollout.
        rollout: the rollout.
        recipe: the section.
        ids: of its prompts.

    Raises:
        FloatingPointError: a score, log-probability or value is NaN or infinite.
        RuntimeError: KL exploded.
    """
    for name, values in (
        ("scores", rollout.score_B),
        ("log-probabilities", rollout.log_prob_BT),
        ("values", rollout.value_BT),
    ):
        bad_B = ~torch.isfinite(values).reshape(len(values), -1).all(-1)
        if bool(bad_B.any()):
            bad = [name for name, is_bad in zip(ids, bad_B.tolist(), strict=False) if is_bad]
            raise FloatingPointError(
                f"ppo iteration {iteration}: {name} are NaN or infinite, in {int(bad_B.sum())} of "
                f"{len(values)} answers, to prompts {listed(bad)}; lower learning_rate"
            )
    if (kl := float(rollout.kl_B.mean())) > recipe.max_kl:
        raise RuntimeError(
            f"ppo iteration {iteration}: KL to the SFT policy is {kl:.2f} nats an answer, over "
            f"max_kl ({recipe.max_kl}); lower learning_rate, raise kl_coef or set target_kl"
        )


def reached(history: Sequence[dict[str, float]], recipe: PpoRecipe) -> bool:
    """Whether the last two iterations' mean score is at the gain that the recipe stops at."""
    if recipe.stop_at_gain is None or len(history) < 2:
        return False
    return (history[-2]["score"] + history[-1]["score"]) / 2 >= recipe.stop_at_gain


def held_out_figures(before: Rollout, after: Rollout) -> dict[str, float]:
    """The verdict: answers to the same prompts, before training (the SFT policy) and after.

    `gain` is in standard deviations of SFT's scores; `gain_by_length` is the part of it that SFT's
    own slope of score on length would give for the change in length.
    """
    score_B, length_B = before.score_B, before.length_B.float()
    std = float(score_B.std(correction=0))
    longer = float(after.length_B.float().mean() - length_B.mean())
    return {
        "held_out_sft_score": float(score_B.mean()),
        "held_out_sft_score_std": std,
        "held_out_score": float(after.score_B.mean()),
        "gain": float(after.score_B.mean() - score_B.mean()) / max(std, 1e-6),
        "gain_by_length": slope(score_B, length_B) * longer / max(std, 1e-6),
        "held_out_kl": float(after.kl_B.mean()),
        "sft_length": float(length_B.mean()),
        "length": float(after.length_B.float().mean()),
        "sft_ended_share": float(before.ended_B.float().mean()),
        "ended_share": float(after.ended_B.float().mean()),
        "sft_entropy": float(masked_mean(before.entropy_BT, before.mask_BT)),
        "entropy": float(masked_mean(after.entropy_BT, after.mask_BT)),
        "score_length_correlation": correlation(after.score_B, after.length_B),
    }
