"""PPO: the policy learns from the reward model's scores, kept close to SFT by a KL penalty.

Schulman et al. 2017 (clipped surrogate), Schulman et al. 2016 (GAE), Ziegler et al. 2019 (language
models, KL penalty and its controller), with the details of Huang et al. 2022 and 2024. Dropout is
off throughout; there is no shared trunk: policy and value function are adapters of their own.

Left out so far: several processes, resuming, `method: full` (four copies of the model).

Shapes: B answers of a rollout, T response positions, N real response tokens of a forward pass.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from posttrain.align.losses import (
    adapted_kl_coef,
    clipped_share,
    explained_variance,
    gae,
    kl_from_samples,
    masked_mean,
    penalised_rewards,
    policy_loss,
    value_loss,
    whiten,
)
from posttrain.align.reward_report import correlation
from posttrain.align.rollout import (
    POLICY,
    REFERENCE,
    VALUE,
    Actors,
    Rollout,
    batch_of,
    batches_of,
    load_actors,
    policy_reader,
    roll_out,
    value_reader,
)
from posttrain.align.forward import using
from posttrain.align.rows import pad_id, read_prompts
from posttrain.artifacts import BaseModel, Policy, PolicyFacts, RewardModel, Tokens
from posttrain.data.chat import end_tokens
from posttrain.models.device import prepare
from posttrain.models.generate import Sampling
from posttrain.models.load import count_adapted, save_adapter, trained_on
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.section import Section
from posttrain.tracking import Curves, log_parameters


def train(
    tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel, recipe: PpoRecipe
) -> Policy:
    """Raise the score of the assistant's answers, and measure the gain on prompts never rolled out.

    Raises:
        ValueError: the artifacts do not fit, or the reward model cannot tell SFT's answers apart.
        FloatingPointError: a loss or gradient is NaN or infinite.
        RuntimeError: KL exploded.
    """
    tokens.verify()
    runtime = prepare(recipe.seed)
    prompts = [prompt.ids for prompt in read_prompts(tokens, recipe.prompt_set)]
    held_out = [prompt.ids for prompt in read_prompts(tokens, recipe.held_out_set)]
    tokenizer = load_tokenizer(domain)
    sampling = Sampling(
        max_new_tokens=recipe.max_new_tokens,
        temperature=recipe.temperature,
        end_ids=end_tokens(tokenizer),
        pad_id=pad_id(tokenizer),
        batch_size=recipe.generation_batch_size,
        seed=recipe.seed,
    )
    actors = load_actors(domain, assistant, reward, sampling, recipe)
    folder = runtime.new_folder("ppo")
    log_parameters("ppo", recipe.model_dump())
    before = roll_out(actors, held_out[: recipe.num_held_out], recipe.seed, REFERENCE)
    figures = optimise(actors, prompts, recipe, Curves(folder, "ppo"))
    after = roll_out(actors, held_out[: recipe.num_held_out], recipe.seed, POLICY)
    save_adapter(actors.model, POLICY, folder / "adapter")
    num_modules, num_trainable = count_adapted(actors.model, POLICY)
    facts = PolicyFacts(
        trained_on=trained_on(domain),
        method="lora",
        num_trainable=num_trainable,
        num_adapted_modules=num_modules,
        recipe=recipe.model_dump(),
        figures={**figures, **held_out_figures(before, after)},
    )
    return Policy.write(folder, "ppo", facts)


def optimise(
    actors: Actors, prompts: Sequence[list[int]], recipe: PpoRecipe, curves: Curves
) -> dict[str, float]:
    """The loop: roll out, reward, estimate advantages, update; until the plan or the gain is reached.

    Returns:
        Figures of the whole stage: iterations, seconds, first and last entropy, last KL.
    """
    started = time.perf_counter()
    scale = sft_scale(actors, prompts, recipe)
    centre_value(actors, scale, recipe)
    policy_optimizer = adam(actors.policy_weights, recipe)
    value_optimizer = adam(actors.value_weights, recipe)
    kl_coef = recipe.kl_coef
    history: list[dict[str, float]] = []
    for iteration in range(recipe.num_iterations):
        begun = time.perf_counter()
        set_learning_rate([policy_optimizer, value_optimizer], iteration, recipe)

        # 1. rollout: answers, scores, log-probabilities, values
        batch = draw(prompts, iteration, recipe)
        rollout = roll_out(actors, batch, recipe.seed + 1 + iteration, POLICY)

        # 2. scores: normalised by SFT's, a fixed one where no end token came
        score_B = normalised_scores(rollout, scale, recipe)

        # 3. rewards: -beta x KL a token, the score on the last
        rewards_BT = penalised_rewards(
            score_B, rollout.log_prob_BT, rollout.reference_BT, rollout.mask_BT, kl_coef
        )

        # 4. advantages: GAE; returns before whitening
        advantages_BT = gae(
            rewards_BT, rollout.value_BT, rollout.mask_BT, recipe.gamma, recipe.gae_lambda
        )
        returns_BT = advantages_BT + rollout.value_BT
        learned = Learned(rollout, whiten(advantages_BT, rollout.mask_BT), returns_BT)

        # 5. updates: epochs over minibatches, until the policy has moved too far
        updates = []
        for minibatch in minibatches(len(batch), iteration, recipe):
            moved = update_policy(actors, learned, minibatch, policy_optimizer, recipe)
            if moved.kl > recipe.max_minibatch_kl:
                break
            value = update_value(actors, learned, minibatch, value_optimizer, recipe)
            updates.append({**moved.model_dump(), **value})

        # 6. figures, health, and the next KL coefficient
        figures = {
            **rollout_figures(rollout, score_B, rewards_BT, returns_BT),
            **averages(updates),
            "num_updates": float(len(updates)),
            "kl_coef": kl_coef,
            "learning_rate": policy_optimizer.param_groups[0]["lr"],
        }
        seconds = time.perf_counter() - begun
        figures["tokens_per_second"] = float(rollout.mask_BT.sum()) / seconds
        curves.log(iteration, figures)
        check_health(iteration, figures, recipe)
        history.append(figures)
        if recipe.target_kl is not None:
            kl_coef = adapted_kl_coef(
                kl_coef, figures["kl"], recipe.target_kl, len(batch), recipe.kl_horizon
            )
        if reached(history, recipe):
            break
    return {
        "iterations": float(len(history)),
        "seconds": time.perf_counter() - started,
        "first_entropy": history[0]["entropy"],
        "last_entropy": history[-1]["entropy"],
        "last_rollout_kl": history[-1]["kl"],
        "last_kl_coef": kl_coef,
    }
