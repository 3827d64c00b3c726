"""What Transformers' Trainer lacks: whole checkpoints, a NaN that stops, curves, a count of steps.

A mixin for Trainer and for TRL's trainers; no training logic of its own.
"""

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from posttrain.models.device import device, dtype
from posttrain.recipe.train import TrainRecipe
from posttrain.runtime import Runtime
from posttrain.tracking import Curves
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.interrupt import Interrupted, Interruption, interruption

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class GuardedTrainer(Trainer):
    """Mixed in before a Trainer: `class SftTrainer(GuardedTrainer, SFTTrainer)`."""

    checkpoints: Checkpoints
    max_bad_steps: int = 0
    num_bad_steps: int = 0

    def run(
        self, recipe: TrainRecipe, checkpoints: Checkpoints, curves: Curves
    ) -> dict[str, float]:
        """Train to the planned step, from the newest whole checkpoint if there is one.

        Returns:
            Final figures: steps, mean loss over the last tenth of the logged points.

        Raises:
            FloatingPointError: a NaN or infinite gradient beyond the recipe's tolerance.
            Interrupted: SIGTERM came; the step at hand was finished and saved.
            RuntimeError: training ended before the planned step.
        """
        self.checkpoints = checkpoints
        self.max_bad_steps = recipe.max_bad_steps
        self.remove_callback(ProgressCallback)
        self.add_callback(ProgressBar())
        self.add_callback(CurvesCallback(curves))
        resume = checkpoints.newest()
        with interruption() as asked:
            self.add_callback(SaveAndStop(asked))
            self.train(resume_from_checkpoint=str(resume) if resume else None)
        # Trainer returns as if all were well when a callback or a signal ended it early.
        if self.state.global_step != self.state.max_steps:
            kind = Interrupted if asked.asked else RuntimeError
            raise kind(
                f"training ended at step {self.state.global_step} of {self.state.max_steps}; run "
                f"the same command again, it continues from {checkpoints.place}"
            )
        _check_parameters(self.model)
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        tail = losses[-max(1, len(losses) // 10) :]
        return {"steps": float(self.state.global_step), "loss": sum(tail) / len(tail)}

    def _clip_grad_norm(self, model: torch.nn.Module) -> torch.Tensor:
        """Clip, and look: a NaN loss makes every gradient NaN, so one look a step sees both."""
        norm: torch.Tensor = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        if not math.isfinite(float(norm)):
            self.num_bad_steps += 1
            if self.num_bad_steps > self.max_bad_steps:
                raise FloatingPointError(
                    f"step {self.state.global_step + 1}: the gradient's norm is {float(norm)} "
                    f"(bad steps: {self.num_bad_steps}, max_bad_steps: {self.max_bad_steps}); "
                    "lower learning_rate or look at the rows of this batch. Last good checkpoint: "
                    f"{self.checkpoints.newest()}"
                )
            model.zero_grad(set_to_none=True)  # AdamW passes over parameters without a gradient
        return norm

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Let Trainer write to a staging folder, then publish it whole."""
        _check_parameters(self.model)
        super()._save_checkpoint(model, trial)
        staged = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        self.checkpoints.publish(staged)


class SaveAndStop(TrainerCallback):
    """Ends training with a checkpoint after the step in which it was asked to."""

    def __init__(self, asked: Interruption) -> None:
        self.asked = asked

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.asked.asked and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True


class CurvesCallback(TrainerCallback):
    """Hands what Trainer logs to the stage's curves."""

    def __init__(self, curves: Curves) -> None:
        self.curves = curves
        self.started = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A resumed stage begins with the points that it had logged before."""
        for logged in state.log_history:
            self.on_log(args, SimpleNamespace(global_step=logged["step"]), control, logs=logged)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The last step is logged whatever the interval: a short stage has a curve too."""
        control.should_log = control.should_log or state.global_step == state.max_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        kept = ("loss", "grad_norm", "learning_rate", "accuracy", "margin", "mean_token_accuracy")
        figures = {name: float(logs[name]) for name in kept if name in (logs or {})}
        if "loss" in figures:
            figures["seconds"] = time.perf_counter() - self.started
            self.curves.log(state.global_step, figures)


class ProgressBar(ProgressCallback):
    """Trainer's bar without the dictionaries that it prints between."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")


def arguments(
    recipe: TrainRecipe, checkpoints: Checkpoints, kind: type[TrainingArguments], **more: Any
) -> Any:
    """A section's values under the names that Transformers uses."""
    runtime = Runtime.from_environment()
    staging = checkpoints.folder / "staging"
    return kind(
        output_dir=str(staging),
        learning_rate=recipe.learning_rate,
        num_train_epochs=recipe.num_epochs,
        max_steps=recipe.max_steps or -1,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation_steps,
        lr_scheduler_type=SCHEDULES[recipe.schedule],
        warmup_steps=recipe.warmup_share,  # below 1 it is a share of the steps
        weight_decay=recipe.weight_decay,
        adam_beta2=recipe.beta2,
        max_grad_norm=recipe.max_grad_norm,
        activation_checkpointing=recipe.gradient_checkpointing,
        logging_steps=recipe.log_every_steps,
        logging_nan_inf_filter=False,  # it prints a NaN loss as the last good one
        save_strategy="steps",
        save_steps=recipe.checkpoint_every_steps,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=dtype(runtime) == torch.bfloat16,
        use_cpu=device(runtime).type == "cpu",
        report_to="none",  # curves go through Curves: the same names in every stage
        **more,
    )


def _check_parameters(model: torch.nn.Module | None) -> None:
    """No weight that is trained is NaN or infinite."""
    assert model is not None
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise FloatingPointError(f"{name} holds NaN or infinite values; lower learning_rate")
