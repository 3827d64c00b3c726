"""What PPO carries from one iteration to the next, and how it outlives the process.

Weights and optimizers' moments as safetensors, the rest as JSON: nothing is pickled. Prompts, draws
and minibatches are fixed by (seed, iteration) and dropout is off, so no generator's state belongs
to it: a run that continues from here ends in the same bits as one that was never interrupted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from posttrain import processes
from posttrain.align.ppo_update import adam
from posttrain.align.rollout import POLICY, VALUE, Actors
from posttrain.align.score import load_head, save_head
from posttrain.models.adapters import fill_adapter, save_adapter
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.section import Section
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.finite import Tolerance, check_weights
from posttrain.train.shortage import check_memory, checkpoint_bytes

STATE, MOMENTS = "state.json", "optimizers.safetensors"


class Scale(Section):
    """SFT's own answers to rollout prompts: the unit of the reward, and of the change in length."""

    mean: float
    std: float
    """Of the scores."""

    length: float
    """Mean response tokens."""

    slope: float
    """Least-squares slope of the score on the length, a token."""


@dataclass
class Progress:
    """Where the loop stands, apart from the adapters' weights."""

    scale: Scale
    policy_optimizer: torch.optim.Optimizer
    value_optimizer: torch.optim.Optimizer
    kl_coef: float
    tolerance: Tolerance
    history: list[dict[str, float]] = field(default_factory=list)
    """Figures of each iteration that is done."""

    @classmethod
    def start(cls, actors: Actors, scale: Scale, recipe: PpoRecipe) -> "Progress":
        """Before the first iteration."""
        optimizers = adam(actors.policy_weights, recipe), adam(actors.value_weights, recipe)
        return cls(scale, *optimizers, recipe.kl_coef, Tolerance(recipe.max_bad_steps))

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"policy": self.policy_optimizer, "value": self.value_optimizer}

    def save(self, actors: Actors, checkpoints: Checkpoints) -> None:
        """Publish a checkpoint of the iterations that are done; one process writes it.

        Raises:
            FloatingPointError: a weight of it is NaN or infinite.
            DiskFull: there is no room for it.
        """
        weights = [*actors.policy_weights, *actors.value_weights]
        check_weights(actors.named(weights), f"ppo after iteration {len(self.history)}")
        if processes.is_main():
            staged = checkpoints.stage(len(self.history))
            with checkpoints.writing(staged, checkpoint_bytes(weights)):
                self._write(actors, staged)
                checkpoints.publish(staged)
        processes.wait()

    def _write(self, actors: Actors, staged: Path) -> None:
        save_adapter(actors.model, POLICY, staged / POLICY)
        save_adapter(actors.model, VALUE, staged / VALUE)
        save_head(actors.value_head, staged / VALUE)
        moments = {
            f"{whose}.{index}.{name}": tensor.contiguous()
            for whose, optimizer in self.optimizers.items()
            for index, state in optimizer.state_dict()["state"].items()
            for name, tensor in state.items()
        }
        save_file(moments, staged / MOMENTS)
        state = {
            "scale": self.scale.model_dump(),
            "kl_coef": self.kl_coef,
            "history": self.history,
            "bad_steps": self.tolerance.seen,
            "scaler": actors.scaler.state_dict(),
        }
        (staged / STATE).write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def resume(cls, actors: Actors, checkpoint: Path, recipe: PpoRecipe) -> "Progress":
        """Fill policy, value function and optimizers from a checkpoint."""
        fill_adapter(actors.model, POLICY, checkpoint / POLICY)
        fill_adapter(actors.model, VALUE, checkpoint / VALUE)
        load_head(actors.value_head, checkpoint / VALUE)
        state = json.loads((checkpoint / STATE).read_bytes())
        found = cls.start(actors, Scale.model_validate(state["scale"]), recipe)
        moments = load_file(checkpoint / MOMENTS)
        for whose, optimizer in found.optimizers.items():
            restored = optimizer.state_dict()
            for key, tensor in moments.items():
                owner, index, name = key.split(".")
                if owner == whose:
                    restored["state"].setdefault(int(index), {})[name] = tensor
            optimizer.load_state_dict(restored)
        found.kl_coef = float(state["kl_coef"])
        found.history, found.tolerance.seen = state["history"], state["bad_steps"]
        actors.scaler.load_state_dict(state["scaler"])
        return found


def check_room(
    actors: Actors, progress: Progress, recipe: PpoRecipe, stage: str, checkpoints: Checkpoints
) -> None:
    """Before the first iteration: checkpoints, gradients and moments have their room.

    Raises:
        DiskFull: there is none for the checkpoints.
        OutOfMemory: there is none for gradients and moments.
    """
    weights = [*actors.policy_weights, *actors.value_weights]
    if processes.is_main():
        saves = 1 + recipe.num_iterations // recipe.checkpoint_every_iterations
        checkpoints.check_room(stage, weights, saves)
    check_memory(stage, weights, has_moments=bool(progress.policy_optimizer.state))
