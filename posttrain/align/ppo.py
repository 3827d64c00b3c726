"""PPO: the policy learns from the reward model's scores, kept close to SFT by a KL penalty.

Schulman et al. 2017 (clipped surrogate), Schulman et al. 2016 (GAE), Ziegler et al. 2019 (language
models, KL penalty and its controller), with the details of Huang et al. 2022 and 2024. Dropout is
off throughout; there is no shared trunk: policy and value function are adapters of their own.

Several processes share each rollout's rows and each minibatch's; what is computed from a whole
rollout (rewards, advantages, their whitening, figures) all of them compute alike. Left out:
`method: full` (four copies of the model).

Shapes: B answers of a rollout, T response positions, N real response tokens of a forward pass.
"""

import time
from collections.abc import Sequence

import torch
from tqdm import trange

from posttrain import processes
from posttrain.align.losses import adapted_kl_coef, gae, penalised_rewards, whiten
from posttrain.align.ppo_figures import (
    averages,
    check_rollout,
    held_out_figures,
    reached,
    rollout_figures,
)
from posttrain.align.ppo_health import check_health, is_ailing, signs
from posttrain.align.ppo_state import Progress, Scale, check_room
from posttrain.align.ppo_update import (
    Learned,
    draw,
    minibatches,
    seed_of,
    set_learning_rate,
    update_policy,
    update_value,
)
from posttrain.align.reward_report import slope
from posttrain.align.rollout import (
    POLICY,
    REFERENCE,
    Actors,
    Rollout,
    load_actors,
    roll_out,
    sample,
)
from posttrain.align.rows import Prompt, read_prompts, sampling_by
from posttrain.align.write import write_policy
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.contract import check_tokens
from posttrain.models.device import kernels, prepare
from posttrain.models.tokenizer import load_tokenizer
from posttrain.progress import seconds_between
from posttrain.recipe.ppo import PpoRecipe
from posttrain.tracking import RESULT, Curves, log_figures, log_parameters
from posttrain.train.checkpoints import Checkpoints, checkpoints_of
from posttrain.train.interrupt import Interrupted, interruption


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
        FloatingPointError: a loss or gradient is NaN or infinite, more often than the recipe bears,
            or a weight or a rollout is.
        RuntimeError: KL exploded, or a sign of ill health lasted (`ppo.health`).
        DiskFull: its checkpoints have no room.
        OutOfMemory: gradients and optimizer have none.
            Each of them bears a note with the last good checkpoint.
    """
    check_tokens(tokens, domain)
    assistant.made_by("sft", "self_critique")
    runtime = prepare(recipe.seed)
    prompts = read_prompts(tokens, recipe.prompt_set)
    held_out = [prompt.ids for prompt in read_prompts(tokens, recipe.held_out_set)]
    sampling = sampling_by(load_tokenizer(domain), recipe)
    actors = load_actors(domain, assistant, reward, sampling, recipe)
    folder = processes.by_main(lambda: runtime.new_folder(stage))
    chosen = kernels(runtime, domain.facts.architecture)
    log_parameters(stage, {**recipe.model_dump(), "kernels": chosen})
    before = roll_out(actors, held_out[: recipe.num_held_out], recipe.seed, REFERENCE)
    checkpoints = checkpoints_of(stage, recipe, tokens, domain, assistant, reward)
    with checkpoints.named():
        progress = optimise(actors, prompts, recipe, Curves(folder, stage, "ppo"), checkpoints)
        after = roll_out(actors, held_out[: recipe.num_held_out], recipe.seed, POLICY)
        check_rollout(len(progress.history) + 1, after, recipe)  # no rollout saw the last update
    gained = held_out_figures(before, after)
    log_figures(RESULT, gained)
    figures = {**stage_figures(progress), **gained}
    warnings = tuple(signs(progress.history, recipe.health).values())
    policy = processes.by_main(
        lambda: write_policy(folder, stage, domain, actors.model, POLICY, recipe, figures, warnings)
    )
    processes.by_main(checkpoints.forget)
    return policy


def optimise(
    actors: Actors,
    prompts: Sequence[Prompt],
    recipe: PpoRecipe,
    curves: Curves,
    checkpoints: Checkpoints,
) -> Progress:
    """The loop: roll out, reward, estimate advantages, update; until plan or gain is reached.

    Continues from the newest whole checkpoint. One is written when a rollout has shown that the
    policy so far is healthy: what went wrong in an update shows in the next rollout.

    Raises:
        Interrupted: SIGTERM came; the iteration at hand was finished and saved.
    """
    progress = begin(actors, prompts, recipe, curves, checkpoints)
    check_room(actors, progress, recipe, curves.stage, checkpoints)
    with interruption() as asked:
        for iteration in trange(
            len(progress.history) + 1,
            recipe.num_iterations + 1,
            desc=curves.stage,
            disable=not processes.is_main(),
            mininterval=seconds_between(),
        ):
            if reached(progress.history, recipe):
                break
            figures = iterate(iteration, actors, prompts, progress, recipe, checkpoints)
            curves.log(iteration, figures)
            if processes.agreed(asked.asked):
                progress.save(actors, checkpoints)
                raise Interrupted(
                    f"{curves.stage} ended after iteration {iteration} of {recipe.num_iterations}; "
                    f"run the same command again, it continues from {checkpoints.place}"
                )
    return progress


def begin(
    actors: Actors,
    prompts: Sequence[Prompt],
    recipe: PpoRecipe,
    curves: Curves,
    checkpoints: Checkpoints,
) -> Progress:
    """The newest whole checkpoint with its curve, or the start."""
    if (found := processes.by_main(checkpoints.newest)) is not None:
        progress = Progress.resume(actors, found, recipe)
        for iteration, figures in enumerate(progress.history, start=1):
            curves.log(iteration, figures)
        return progress
    few = [prompt.ids for prompt in prompts[: recipe.num_held_out]]
    scale = sft_scale(actors, few, recipe)
    normalise_value(actors, scale)
    return Progress.start(actors, scale, recipe)


def iterate(
    iteration: int,
    actors: Actors,
    prompts: Sequence[Prompt],
    progress: Progress,
    recipe: PpoRecipe,
    checkpoints: Checkpoints,
) -> dict[str, float]:
    """One rollout and the updates on it; its figures, which join the history."""
    begun = time.perf_counter()
    set_learning_rate(list(progress.optimizers.values()), iteration, recipe)

    # 1. rollout: answers, scores, log-probabilities of policy and reference, values
    batch = draw(prompts, iteration, recipe)
    rollout = roll_out(actors, [prompt.ids for prompt in batch], seed_of(recipe, iteration), POLICY)
    mask_BT = rollout.mask_BT

    # 2. scores: in units of SFT's; a fixed one where no end token came
    score_B = reward_scores(rollout, progress.scale, recipe)

    # 3. rewards: -beta x KL a token, the score on the last
    rewards_BT = penalised_rewards(
        score_B, rollout.log_prob_BT, rollout.reference_BT, mask_BT, progress.kl_coef
    )

    # 4. advantages by GAE, whitened; the value function's targets before whitening
    advantages_BT = gae(rewards_BT, rollout.value_BT, mask_BT, recipe.gamma, recipe.gae_lambda)
    returns_BT = advantages_BT + rollout.value_BT
    whitened_BT, ids = whiten(advantages_BT, mask_BT), [prompt.id for prompt in batch]
    learned = Learned(iteration, rollout, whitened_BT, returns_BT, ids, progress.tolerance)

    # 5. health of the policy that rolled out; if good, it is kept
    seen = rollout_figures(rollout, score_B, rewards_BT, returns_BT, progress.scale)
    try:
        check_rollout(iteration, rollout, recipe, ids)
        check_health(iteration, [*progress.history, seen], recipe.health)
    except (FloatingPointError, RuntimeError):
        if processes.is_main():  # SIGTERM may have had it saved before it was seen
            checkpoints.discard(iteration - 1)
        processes.wait()
        raise
    first = progress.history[0] if progress.history else seen
    due = (iteration - 1) % recipe.checkpoint_every_iterations == 0
    if due and not is_ailing(first, seen, recipe.health):
        progress.save(actors, checkpoints)

    # 6. updates: epochs over minibatches, until the policy has moved too far from the rollout
    updates: list[dict[str, float]] = []
    for minibatch in minibatches(len(batch), iteration, recipe):
        policy_step = update_policy(actors, learned, minibatch, progress.policy_optimizer, recipe)
        if policy_step is None:
            break
        value_step = update_value(actors, learned, minibatch, progress.value_optimizer, recipe)
        updates.append({**policy_step, **value_step})

    # 7. figures, and the next KL coefficient
    figures = {
        **seen,
        **averages(updates),
        "kl_coef": progress.kl_coef,
        "learning_rate": float(progress.policy_optimizer.param_groups[0]["lr"]),
        "tokens_per_second": float(mask_BT.sum()) / (time.perf_counter() - begun),
    }
    if recipe.target_kl is not None:
        progress.kl_coef = adapted_kl_coef(
            progress.kl_coef, figures["kl"], recipe.target_kl, len(batch), recipe.kl_horizon
        )
    progress.history.append(figures)
    return figures


def stage_figures(progress: Progress) -> dict[str, float]:
    """Figures of the whole stage, in the units of its curve."""
    first, last = progress.history[0], progress.history[-1]
    return {
        "iterations": float(len(progress.history)),
        "first_entropy": first["entropy"],
        "last_entropy": last["entropy"],
        "last_rollout_kl": last["kl"],
        "last_kl_coef": progress.kl_coef,
    }


def sft_scale(actors: Actors, prompts: Sequence[list[int]], recipe: PpoRecipe) -> Scale:
    """Scores of SFT's own answers, sampled as in rollouts, and how they go with length.

    Raises:
        ValueError: all scores are equal.
    """
    responses, score_B = sample(actors, prompts, seed_of(recipe, 0), REFERENCE)
    length_B = torch.tensor([len(response) for response in responses], dtype=torch.float32)
    scale = Scale(
        mean=float(score_B.mean()),
        std=float(score_B.std(correction=0)),
        length=float(length_B.mean()),
        slope=slope(score_B, length_B),
    )
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
