"""PPO's optimizer steps on one rollout, and the order of prompts and minibatches.

Order and draws are fixed by (seed, iteration) alone: no generator's state has to be carried along.

Shapes: B answers, T response positions, N real response tokens of a forward pass.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from posttrain import processes
from posttrain.align.forward import like_lengths, using
from posttrain.align.losses import clipped_share, kl_from_samples, policy_loss, value_loss
from posttrain.align.rollout import (
    POLICY,
    VALUE,
    Actors,
    Rollout,
    batch_of,
    policy_reader,
    value_reader,
)
from posttrain.cost import count_tokens
from posttrain.recipe.ppo import PpoRecipe
from posttrain.train.finite import Tolerance, check_weights, listed

Row = TypeVar("Row")


@dataclass(frozen=True)
class Learned:
    """A rollout with what it is worth."""

    iteration: int
    rollout: Rollout
    advantages_BT: Tensor
    """Whitened."""

    returns_BT: Tensor
    """Targets of the value function."""

    ids: Sequence[str] = ()
    """Of the prompts, for an error's message."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    """Bad steps of the stage so far, and how many are borne."""

    def told(self, minibatch: Sequence[int]) -> str:
        """Which rows a step learned from."""
        return f"prompts {listed([self.ids[row] for row in minibatch] if self.ids else [])}"


def update_policy(
    actors: Actors,
    learned: Learned,
    minibatch: Sequence[int],
    optimizer: torch.optim.Optimizer,
    recipe: PpoRecipe,
) -> dict[str, float] | None:
    """One step on the clipped surrogate (Schulman et al. 2017, equation 7).

    Returns:
        Its figures; None, and no step, where the policy has moved beyond `max_minibatch_kl`.

    Raises:
        FloatingPointError: the gradient is NaN or infinite.
    """
    norm = None
    while norm is None:
        log_prob_N, old_N, advantage_N, loss_N = _policy_gradients(
            actors, learned, minibatch, recipe
        )
        kl = float(kl_from_samples(log_prob_N, old_N))
        if kl > recipe.max_minibatch_kl:
            optimizer.zero_grad()
            return None
        where = f"ppo iteration {learned.iteration}, policy's step on {learned.told(minibatch)}"
        loss = float(loss_N.mean())
        norm = step(actors, optimizer, actors.policy_weights, loss, where, learned, recipe)
    return {
        "policy_loss": loss,
        "grad_norm": norm,
        "ratio": float((log_prob_N - old_N).exp().mean()),
        "clip_fraction": float(clipped_share(log_prob_N, old_N, advantage_N, recipe.clip_range)),
        "minibatch_kl": kl,
    }


def _policy_gradients(
    actors: Actors, learned: Learned, minibatch: Sequence[int], recipe: PpoRecipe
) -> Tensor:
    """Accumulate them; log-probability now and then, advantage and loss (4, N) of every token."""
    rollout, read = learned.rollout, policy_reader(actors)
    num_tokens = rollout.mask_BT[list(minibatch)].sum()
    seen = [torch.empty(4, 0, device=actors.device)]
    with using(actors.model, POLICY, trainable=True):
        for indices in batches_of(actors, rollout, _ours(minibatch)):
            mask_BT = rollout.mask_BT[indices]
            old_N = rollout.log_prob_BT[indices][mask_BT]
            advantage_N = learned.advantages_BT[indices][mask_BT]
            (log_prob_N,) = read(batch_of(actors, rollout.prompts, rollout.responses, indices))
            count_tokens("trained", sum(_lengths(rollout, indices)))
            loss_N = policy_loss(log_prob_N, old_N, advantage_N, recipe.clip_range)
            actors.scaler.scale(loss_N.sum() / num_tokens).backward()
            seen.append(torch.stack([log_prob_N.detach(), old_N, advantage_N, loss_N.detach()]))
    return torch.cat(processes.gathered([torch.cat(seen, dim=-1).cpu()]), dim=-1)


def update_value(
    actors: Actors,
    learned: Learned,
    minibatch: Sequence[int],
    optimizer: torch.optim.Optimizer,
    recipe: PpoRecipe,
) -> dict[str, float]:
    """One step on the clipped squared error.

    Raises:
        FloatingPointError: the gradient is NaN or infinite.
    """
    norm = None
    while norm is None:
        total = _value_gradients(actors, learned, minibatch, recipe)
        where = f"ppo iteration {learned.iteration}, value function's step on "
        where += learned.told(minibatch)
        loss = float(processes.summed(total))
        norm = step(actors, optimizer, actors.value_weights, loss, where, learned, recipe)
    return {"value_loss": loss, "value_grad_norm": norm}


def _value_gradients(
    actors: Actors, learned: Learned, minibatch: Sequence[int], recipe: PpoRecipe
) -> Tensor:
    """Accumulate them; this process's part of the loss."""
    rollout, read = learned.rollout, value_reader(actors)
    num_tokens = rollout.mask_BT[list(minibatch)].sum()
    total = torch.zeros((), device=actors.device)
    with using(actors.model, VALUE, trainable=True):
        for indices in batches_of(actors, rollout, _ours(minibatch)):
            mask_BT = rollout.mask_BT[indices]
            old_N = rollout.value_BT[indices][mask_BT]
            return_N = learned.returns_BT[indices][mask_BT]
            (value_N,) = read(batch_of(actors, rollout.prompts, rollout.responses, indices))
            loss = value_loss(value_N, old_N, return_N, recipe.value_clip_range).sum() / num_tokens
            actors.scaler.scale(loss).backward()
            total += loss.detach()
    return total


def _ours(minibatch: Sequence[int]) -> Sequence[int]:
    """This process's part of a minibatch; the gradients of all parts are summed in `step`."""
    return minibatch[processes.share_of(len(minibatch))]


def batches_of(actors: Actors, rollout: Rollout, minibatch: Sequence[int]) -> list[list[int]]:
    """The minibatch's indices, in forward passes of like lengths."""
    lengths = _lengths(rollout, minibatch)
    groups = like_lengths(lengths, actors.forward_batch_size, actors.device)
    return [[minibatch[place] for place in group] for group in groups]


def _lengths(rollout: Rollout, indices: Sequence[int]) -> list[int]:
    """Tokens of prompt and answer."""
    return [len(rollout.prompts[i]) + len(rollout.responses[i]) for i in indices]


def step(
    actors: Actors,
    optimizer: torch.optim.Optimizer,
    weights: list[nn.Parameter],
    loss: float,
    where: str,
    learned: Learned,
    recipe: PpoRecipe,
) -> float | None:
    """Clip, step and clear.

    Returns:
        The norm before clipping; None, and no step, where the loss was scaled out of float16's
        range: it is scaled less from here on, and the gradients are to be computed again.

    Raises:
        FloatingPointError: loss or norm is NaN or infinite, more often than the recipe bears (no
            weight has been changed by it), or a weight is so after the step.
    """
    processes.sum_gradients(weights)
    scaler = actors.scaler
    scaler.unscale_(optimizer)
    norm = float(nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm))
    was_bad = not math.isfinite(loss)
    was_bad |= not math.isfinite(norm) and not scaler.get_scale() > 1  # 1 without a scaler
    if was_bad:
        learned.tolerance.bear(f"{where}: the loss is {loss}, the gradient's norm {norm}")
        optimizer.zero_grad()  # with no gradient there is no step
    scaler.step(optimizer)  # passes over a gradient that is not finite
    scaler.update()
    optimizer.zero_grad()
    check_weights(actors.named(weights), where)
    return norm if was_bad or math.isfinite(norm) else None


def adam(weights: list[nn.Parameter], recipe: PpoRecipe) -> torch.optim.Optimizer:
    """Adam without decay, its epsilon as in Huang et al. 2022."""
    return torch.optim.AdamW(
        weights,
        lr=recipe.learning_rate,
        betas=(0.9, recipe.beta2),
        eps=recipe.adam_epsilon,
        weight_decay=0.0,
    )


def set_learning_rate(
    optimizers: Sequence[torch.optim.Optimizer], iteration: int, recipe: PpoRecipe
) -> None:
    """Linear warm-up and linear annealing to `final_lr_share`; iterations count from 1."""
    rise = min(1.0, iteration / recipe.warmup_iterations)
    progress = (iteration - 1) / max(1, recipe.num_iterations - 1)
    share = rise * (1 - (1 - recipe.final_lr_share) * progress)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * share


def draw(prompts: Sequence[Row], iteration: int, recipe: PpoRecipe) -> list[Row]:
    """The iteration's prompts: consecutive ones of a shuffled pass, each pass shuffled anew."""
    start = (iteration - 1) * recipe.batch_size
    places = [divmod(place, len(prompts)) for place in range(start, start + recipe.batch_size)]
    orders = {number: shuffled(len(prompts), seed_of(recipe, -1 - number)) for number, _ in places}
    return [prompts[orders[number][place]] for number, place in places]


def minibatches(num_answers: int, iteration: int, recipe: PpoRecipe) -> Iterator[list[int]]:
    """Indices of each optimizer step, epoch after epoch, each epoch shuffled anew."""
    for epoch in range(recipe.num_epochs):
        order = shuffled(num_answers, seed_of(recipe, iteration) + epoch)
        for part in torch.tensor(order).tensor_split(recipe.num_minibatches):
            yield part.tolist()


def seed_of(recipe: PpoRecipe, iteration: int) -> int:
    """Seeds of neighbouring runs and iterations that do not meet."""
    return (recipe.seed * 1_000_003 + iteration * 101) % 2**63


def shuffled(number: int, seed: int) -> list[int]:
    """The numbers below `number` in an order that the seed alone decides."""
    order: list[int] = torch.randperm(
        number, generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return order
