"""PPO: the policy learns from the reward model's scores, kept close to SFT by a KL penalty.

Schulman et al. 2017 (clipped surrogate), Schulman et al. 2016 (GAE), Ziegler et al. 2019 (language
models, KL penalty and its controller), with the details of Huang et al. 2022 and 2024. Dropout is
off throughout; there is no shared trunk: policy and value function are adapters of their own.

Left out so far: several processes, resuming, `method: full` (four copies of the model).

Shapes: B answers of a rollout, T response positions, N real response tokens of a forward pass.
"""

import time
from collections.abc import Sequence

import torch
from tqdm import tqdm

from posttrain.align.losses import adapted_kl_coef, gae, penalised_rewards, whiten
from posttrain.align.ppo_figures import (
    averages,
    check_rollout,
    held_out_figures,
    reached,
    rollout_figures,
)
from posttrain.align.ppo_update import (
    Learned,
    adam,
    draw,
    minibatches,
    seed_of,
    set_learning_rate,
    update_policy,
    update_value,
)
from posttrain.align.rollout import (
    POLICY,
    REFERENCE,
    Actors,
    Rollout,
    load_actors,
    roll_out,
    sample,
)
from posttrain.align.rows import read_prompts, sampling_by
from posttrain.align.write import write_policy
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.contract import check_tokens
from posttrain.models.device import prepare
from posttrain.models.load import save_adapter
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.section import Section
from posttrain.tracking import Curves, log_figures, log_parameters
from posttrain.train.checkpoints import Checkpoints, checkpoints_of

LAST_GOOD = "last_good"


class Scale(Section):
    """Scores of SFT's own answers to rollout prompts: the unit of the reward."""

    mean: float
    std: float


def train(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    reward: RewardModel,
    recipe: PpoRecipe,
    stage: str = "ppo",
) -> Policy:
    """Raise the score of the assistant's answers, and measure the gain on prompts never rolled out.

    Args:
        tokens: prompts.
        domain: the base of all adapters.
        assistant: where the policy starts, and its reference: SFT's, in a second round the aligned.
        reward: what raises the score.
        recipe: the section.
        stage: `rlaif` in a second round.

    Raises:
        ValueError: the artifacts do not fit, or the reward model cannot tell SFT's answers apart.
        FloatingPointError: a loss or gradient is NaN or infinite.
        RuntimeError: KL exploded. Either way a note says where the last good policy lies.
    """
    check_tokens(tokens, domain)
    assistant.made_by("sft", "self_critique")
    runtime = prepare(recipe.seed)
    prompts = [prompt.ids for prompt in read_prompts(tokens, recipe.prompt_set)]
    held_out = [prompt.ids for prompt in read_prompts(tokens, recipe.held_out_set)]
    sampling = sampling_by(load_tokenizer(domain), recipe)
    actors = load_actors(domain, assistant, reward, sampling, recipe)
    folder = runtime.new_folder(stage)
    log_parameters(stage, recipe.model_dump())
    before = roll_out(actors, held_out[: recipe.num_held_out], recipe.seed, REFERENCE)
    checkpoints = checkpoints_of(stage, recipe, tokens, domain, assistant, reward)
    try:
        figures = optimise(actors, prompts, recipe, Curves(folder, stage), checkpoints)
    except (FloatingPointError, RuntimeError) as error:
        error.add_note(f"The last good policy lies in {checkpoints.folder / LAST_GOOD}.")
        raise
    after = roll_out(actors, held_out[: recipe.num_held_out], recipe.seed, POLICY)
    gained = held_out_figures(before, after)
    log_figures(stage, gained)
    figures |= gained
    policy = write_policy(folder, stage, domain, actors.model, POLICY, recipe, figures)
    checkpoints.forget()
    return policy


def optimise(
    actors: Actors,
    prompts: Sequence[list[int]],
    recipe: PpoRecipe,
    curves: Curves,
    checkpoints: Checkpoints,
) -> dict[str, float]:
    """The loop: roll out, reward, estimate advantages, update; until plan or gain is reached.

    The policy of each healthy rollout is kept in `checkpoints`.

    Returns:
        Figures of the whole stage: iterations, first and last entropy, last KL.
    """
    scale = sft_scale(actors, prompts[: recipe.num_held_out], recipe)
    normalise_value(actors, scale)
    policy_optimizer = adam(actors.policy_weights, recipe)
    value_optimizer = adam(actors.value_weights, recipe)
    kl_coef = recipe.kl_coef
    history: list[dict[str, float]] = []
    for iteration in tqdm(range(1, recipe.num_iterations + 1), desc="ppo"):
        begun = time.perf_counter()
        set_learning_rate([policy_optimizer, value_optimizer], iteration, recipe)

        # 1. rollout: answers, scores, log-probabilities of policy and reference, values
        batch = draw(prompts, iteration, recipe)
        rollout = roll_out(actors, batch, seed_of(recipe, iteration), POLICY)
        check_rollout(iteration, rollout, recipe)
        save_adapter(actors.model, POLICY, checkpoints.folder / LAST_GOOD)
        mask_BT = rollout.mask_BT

        # 2. scores: in units of SFT's; a fixed one where no end token came
        score_B = reward_scores(rollout, scale, recipe)

        # 3. rewards: -beta x KL a token, the score on the last
        rewards_BT = penalised_rewards(
            score_B, rollout.log_prob_BT, rollout.reference_BT, mask_BT, kl_coef
        )

        # 4. advantages by GAE, whitened; the value function's targets before whitening
        advantages_BT = gae(rewards_BT, rollout.value_BT, mask_BT, recipe.gamma, recipe.gae_lambda)
        returns_BT = advantages_BT + rollout.value_BT
        learned = Learned(iteration, rollout, whiten(advantages_BT, mask_BT), returns_BT)

        # 5. updates: epochs over minibatches, until the policy has moved too far from the rollout
        updates: list[dict[str, float]] = []
        for minibatch in minibatches(len(batch), iteration, recipe):
            policy_step = update_policy(actors, learned, minibatch, policy_optimizer, recipe)
            if policy_step is None:
                break
            value_step = update_value(actors, learned, minibatch, value_optimizer, recipe)
            updates.append({**policy_step, **value_step})

        # 6. figures
        figures = {
            **rollout_figures(rollout, score_B, rewards_BT, returns_BT),
            **averages(updates),
            "kl_coef": kl_coef,
            "learning_rate": float(policy_optimizer.param_groups[0]["lr"]),
            "tokens_per_second": float(mask_BT.sum()) / (time.perf_counter() - begun),
        }
        curves.log(iteration, figures)
        history.append(figures)

        # 7. the next KL coefficient
        if recipe.target_kl is not None:
            kl_coef = adapted_kl_coef(
                kl_coef, figures["kl"], recipe.target_kl, len(batch), recipe.kl_horizon
            )
        if reached(history, recipe):
            break
    return {
        "iterations": float(len(history)),
        "first_entropy": history[0]["entropy"],
        "last_entropy": history[-1]["entropy"],
        "last_rollout_kl": history[-1]["kl"],
        "last_kl_coef": kl_coef,
    }


def sft_scale(actors: Actors, prompts: Sequence[list[int]], recipe: PpoRecipe) -> Scale:
    """Mean and standard deviation of the scores of SFT's own answers, sampled as in rollouts.

    Raises:
        ValueError: all scores are equal.
    """
    _, score_B = sample(actors, prompts, seed_of(recipe, 0), REFERENCE)
    scale = Scale(mean=float(score_B.mean()), std=float(score_B.std(correction=0)))
    if not scale.std > 1e-6:
        raise ValueError(
            f"ppo: the reward model gives {len(prompts)} answers of the SFT model one score "
            f"({scale.mean:.4f}, standard deviation {scale.std:.1e}): there is nothing to learn"
        )
    return scale


@torch.no_grad()
def normalise_value(actors: Actors, scale: Scale) -> None:
    """Express the value function in the reward's unit; a zero head stays zero."""
    linear = actors.value_head.linear
    if bool(linear.weight.any()):
        linear.bias.sub_(actors.scorer.mean + scale.mean).div_(scale.std)
        linear.weight.div_(scale.std)


def reward_scores(rollout: Rollout, scale: Scale, recipe: PpoRecipe) -> torch.Tensor:
    """Scores (B) as the policy is paid for them."""
    normalised_B = (rollout.score_B - scale.mean) / scale.std
    paid_B = torch.where(rollout.ended_B, normalised_B, recipe.missing_end_score)
    return paid_B.clamp(-recipe.reward_clip, recipe.reward_clip)
