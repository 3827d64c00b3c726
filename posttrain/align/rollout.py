"""A rollout: answers sampled from the policy, and all that PPO must know of them before it updates.

One base carries four adapters: policy, reference (a frozen copy of SFT), reward and value.

Shapes: B answers, T response positions, N real response tokens (flat, row by row), D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch import Tensor, nn

from posttrain import processes
from posttrain.align.forward import (
    Batch,
    causal,
    check_head,
    collate,
    hidden_states,
    like_lengths,
    log_probs,
    log_probs_and_entropies,
    using,
)
from posttrain.align.score import ScoreHead, Scorer, load_scorer, new_head
from posttrain.artifacts import BaseModel, Policy, RewardModel
from posttrain.models.adapters import adapter_weights, attach_folder
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import attach, load_base_of
from posttrain.models.merged import merged
from posttrain.recipe.ppo import PpoRecipe

POLICY, REFERENCE, REWARD, VALUE = "policy", "reference", "reward", "value"

BYTES_OF_FULL = 40
"""A parameter, in float32: two copies that learn (weight, gradient, two moments) and two frozen."""


@dataclass(frozen=True)
class Actors:
    """The four roles on one base."""

    model: PeftModel
    scorer: Scorer
    value_head: ScoreHead
    sampling: Sampling
    forward_batch_size: int
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler(enabled=False)
    )
    """Of the losses, where the base is in float16: small gradients would be zero on the way."""

    @property
    def device(self) -> torch.device:
        return causal(self.model).device

    @property
    def policy_weights(self) -> list[nn.Parameter]:
        return list(adapter_weights(self.model, POLICY).values())

    @property
    def value_weights(self) -> list[nn.Parameter]:
        return [*adapter_weights(self.model, VALUE).values(), *self.value_head.parameters()]

    def named(self, weights: Sequence[nn.Parameter]) -> dict[str, nn.Parameter]:
        """These weights by their names in the model, or in the value head."""
        heads = self.value_head.named_parameters("value_head")
        names = {id(weight): name for name, weight in [*self.model.named_parameters(), *heads]}
        return {names[id(weight)]: weight for weight in weights}


def load_actors(
    domain: BaseModel,
    assistant: Policy,
    reward: RewardModel,
    sampling: Sampling,
    recipe: PpoRecipe,
) -> Actors:
    """Put policy, reference, reward model and value function on one copy of the base.

    A reward model with weights of its own is a second model in memory.

    Raises:
        ValueError: the SFT policy has full weights, an artifact stands on another base, or the
            value function is to start from a reward model that has no adapter.
    """
    if assistant.facts.method == "full":
        gib = domain.facts.num_parameters * BYTES_OF_FULL / 2**30
        raise ValueError(
            f"{assistant.path}: full weights. Policy, reference, reward model and value function "
            f"would be four copies of the model, about {gib:.1f} GiB with gradients and Adam's "
            "moments; PPO runs with adapters on one base: set sft.method to lora"
        )
    from_reward = recipe.value_init == "reward_model"
    if from_reward and reward.facts.method == "full":
        raise ValueError(
            f"{reward.path}: full weights, and ppo.value_init is 'reward_model': the value "
            "function is an adapter on the policy's base; set ppo.value_init to 'sft'"
        )
    model = attach(load_base_of(domain, assistant), assistant, domain, POLICY, trainable=True)
    check_head(model)
    model = attach(model, assistant, domain, REFERENCE, trainable=False)
    scorer = load_scorer(model, reward, domain, sampling.pad_id, REWARD)
    head = new_head(model)
    if from_reward:
        attach_folder(model, reward.path / "adapter", VALUE, trainable=True)
        head.load_state_dict(scorer.head.state_dict())
    else:
        attach(model, assistant, domain, VALUE, trainable=True)
    model.eval()  # dropout is off in rollouts and updates alike
    scaler = torch.amp.GradScaler(enabled=causal(model).dtype == torch.float16)
    return Actors(model, scorer, head, sampling, recipe.forward_batch_size, scaler)


@dataclass(frozen=True)
class Rollout:
    """Answers and their figures, none with a gradient; padding on the right of each row."""

    prompts: list[list[int]]
    responses: list[list[int]]
    mask_BT: Tensor
    """True on real tokens, the end token included."""

    ended_B: Tensor
    score_B: Tensor
    """Centred, as the reward model gives it, whether the answer ended or not."""

    log_prob_BT: Tensor
    """Of the policy that sampled; in the layout of the updates, so that their first ratio is 1 but
    for float32's rounding: it is read with the adapter merged, which the update is not."""

    reference_BT: Tensor
    value_BT: Tensor
    entropy_BT: Tensor

    @property
    def kl_B(self) -> Tensor:
        """KL to the reference, an answer, in nats: k1 summed over tokens."""
        return (self.log_prob_BT - self.reference_BT).masked_fill(~self.mask_BT, 0.0).sum(-1)

    @property
    def length_B(self) -> Tensor:
        """Response tokens."""
        return self.mask_BT.sum(-1)


@torch.no_grad()
def roll_out(actors: Actors, prompts: Sequence[list[int]], seed: int, adapter: str) -> Rollout:
    """Answer prompts with one adapter, score the answers, and read every role's figures of them."""
    responses, score_B = sample(actors, prompts, seed, adapter)
    with using(actors.model, adapter), merged(actors.model):
        log_prob_BT, entropy_BT = per_token(actors, prompts, responses, watching_reader(actors))
    with using(actors.model, REFERENCE), merged(actors.model):
        (reference_BT,) = per_token(actors, prompts, responses, policy_reader(actors))
    with using(actors.model, VALUE), merged(actors.model):
        (value_BT,) = per_token(actors, prompts, responses, value_reader(actors))
    return Rollout(
        prompts=list(prompts),
        responses=responses,
        mask_BT=response_mask(responses, actors.device),
        ended_B=torch.tensor(
            [response[-1] in actors.sampling.end_ids for response in responses],
            device=actors.device,
        ),
        score_B=score_B,
        log_prob_BT=log_prob_BT,
        reference_BT=reference_BT,
        value_BT=value_BT,
        entropy_BT=entropy_BT,
    )


def sample(
    actors: Actors, prompts: Sequence[list[int]], seed: int, adapter: str
) -> tuple[list[list[int]], Tensor]:
    """Answers, each cut after its first end token, and their centred scores (B).

    The reward model reads prompt and answer as they are: the rendering that it was trained on.
    """
    with using(actors.model, adapter):
        sampling = actors.sampling.model_copy(update={"seed": seed})
        responses = generate(actors.model, prompts, sampling)
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    return responses, actors.scorer.scores(rows, actors.sampling.batch_size).to(actors.device)


Reader = Callable[[Batch], tuple[Tensor, ...]]
"""From a batch to figures (N) of its response tokens, under the active adapter."""


def policy_reader(actors: Actors) -> Reader:
    """Log-probability at the sampling temperature."""

    def read(batch: Batch) -> tuple[Tensor, ...]:
        hidden_ND = hidden_states(actors.model, batch.ids_BS)[batch.predicts_BS]
        return (log_probs(actors.model, hidden_ND, batch.token_N, actors.sampling.temperature),)

    return read


def watching_reader(actors: Actors) -> Reader:
    """The same without gradients, and the entropy."""

    def read(batch: Batch) -> tuple[Tensor, ...]:
        hidden_ND = hidden_states(actors.model, batch.ids_BS)[batch.predicts_BS]
        temperature = actors.sampling.temperature
        return log_probs_and_entropies(actors.model, hidden_ND, batch.token_N, temperature)

    return read


def value_reader(actors: Actors) -> Reader:
    """Value of the state before each token."""

    def read(batch: Batch) -> tuple[Tensor, ...]:
        hidden_ND = hidden_states(actors.model, batch.ids_BS)[batch.predicts_BS]
        return (actors.value_head(hidden_ND),)

    return read


def per_token(
    actors: Actors,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    read: Reader,
) -> tuple[Tensor, ...]:
    """Figures (B, T) of every response token, read in batches of like lengths; 0 on padding.

    Several processes share the rows, and each gets the figures of all.
    """
    ours = processes.share_of(len(prompts))
    flat = _flat_figures(actors, prompts[ours], responses[ours], read)
    mask_BT = response_mask(responses, actors.device)
    figures = []
    for found in zip(*processes.gathered(flat), strict=True):
        rows_BT = torch.zeros(mask_BT.shape, device=actors.device)
        rows_BT[mask_BT] = torch.cat(found).to(actors.device)
        figures.append(rows_BT)
    return tuple(figures)


def _flat_figures(
    actors: Actors,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    read: Reader,
) -> list[tuple[Tensor, ...]]:
    """A row's figures each, of its response tokens, on the CPU."""
    rows: dict[int, tuple[Tensor, ...]] = {}
    lengths = [len(prompt) + len(row) for prompt, row in zip(prompts, responses, strict=True)]
    for indices in like_lengths(lengths, actors.forward_batch_size, actors.device):
        found = read(batch_of(actors, prompts, responses, indices))
        sizes = [len(responses[index]) for index in indices]
        parts = [figure_N.float().cpu().split(sizes) for figure_N in found]
        rows.update(zip(indices, zip(*parts, strict=True), strict=True))
    return [rows[index] for index in range(len(prompts))]


def batch_of(
    actors: Actors,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    indices: Sequence[int],
) -> Batch:
    """The answers at `indices` as one rectangle."""
    return collate(
        [prompts[index] for index in indices],
        [responses[index] for index in indices],
        actors.sampling.pad_id,
        actors.device,
    )


def response_mask(responses: Sequence[list[int]], device: torch.device) -> Tensor:
    """True (B, T) on each response's real tokens."""
    length_B1 = torch.tensor([[len(response)] for response in responses], device=device)
    return torch.arange(int(length_B1.max()), device=device) < length_B1
