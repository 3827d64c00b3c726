"""What Transformers' Trainer lacks: whole checkpoints, a NaN that stops, curves, a count of steps.

A mixin for Trainer and for TRL's trainers; no training logic of its own.
"""

import logging
import math
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from accelerate.data_loader import SeedableRandomSampler
from peft import PeftModel
from torch.utils.data import Sampler
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from posttrain import processes
from posttrain.cost import count_tokens
from posttrain.models.device import architecture_of, device, dtype, kernels
from posttrain.progress import seconds_between
from posttrain.recipe.train import TrainRecipe
from posttrain.runtime import Runtime
from posttrain.tracking import Curves, log_parameters
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.even import Evened, EvenedOrder
from posttrain.train.interrupt import Interrupted, Interruption, interruption
from posttrain.train.length_groups import LengthGroups

EVAL_LOSS = "eval_loss"
"""Trainer's name of the loss on held-out rows."""

KEPT = (
    *("loss", "grad_norm", "learning_rate", "accuracy", "margin", "mean_token_accuracy"),
    EVAL_LOSS,
)
"""What becomes a curve of all that is logged."""

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class GuardedTrainer(Trainer):
    """Mixed in before a Trainer: `class SftTrainer(GuardedTrainer, SFTTrainer)`.

    With several processes, a step sees the rows that one process with as many times the batch size
    would see: the collator's `blank` rows fill the last batch up, where Trainer repeats others.
    """

    checkpoints: Checkpoints
    max_bad_steps: int = 0
    num_bad_steps: int = 0
    lengths: Sequence[int] | None = None
    """Of the rows, where those of like lengths are to share a batch."""
    order: EvenedOrder | None = None
    """Of the rows, where several processes share them."""

    def run(
        self, recipe: TrainRecipe, checkpoints: Checkpoints, curves: Curves
    ) -> dict[str, float]:
        """Train to the planned step, from the newest whole checkpoint if there is one.

        Returns:
            Final figures: steps, mean loss over the last tenth of the logged points, the last
            held-out loss where one was measured.

        Raises:
            FloatingPointError: a NaN or infinite gradient beyond the recipe's tolerance.
            Interrupted: SIGTERM came; the step at hand was finished and saved.
            RuntimeError: training ended before the planned step.
        """
        self.checkpoints = checkpoints
        self.max_bad_steps = recipe.max_bad_steps
        assert self.model is not None
        chosen = kernels(Runtime.from_environment(), architecture_of(self.model))
        log_parameters(curves.stage, {"kernels": chosen})
        self.remove_callback(ProgressCallback)
        self.add_callback(ProgressBar())
        self.add_callback(CurvesCallback(curves))
        resume = processes.by_main(self._resume_from)
        if resume is not None:
            logging.getLogger(__name__).info("%s: goes on from %s", curves.stage, resume.name)
        if processes.count() > 1:
            self.train_dataset = cast(Any, self._evened())
            self.add_callback(SameEpoch(self))
            torch.manual_seed(recipe.seed + processes.rank())  # each drops out what it likes
        with interruption() as asked:
            self.add_callback(SaveAndStop(asked))
            if resume is None or not self._is_finished(resume):
                self.train(resume_from_checkpoint=str(resume) if resume else None)
        # Trainer returns as if all were well when a callback or a signal ended it early.
        stopped = processes.agreed(asked.asked)
        if stopped or self.state.global_step != self.state.max_steps:
            kind = Interrupted if stopped else RuntimeError
            raise kind(
                f"training ended at step {self.state.global_step} of {self.state.max_steps}; run "
                f"the same command again, it continues from {checkpoints.place}"
            )
        _check_parameters(self.model)
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        tail = losses[-max(1, len(losses) // 10) :]
        figures = {"steps": float(self.state.global_step), "loss": sum(tail) / len(tail)}
        held_out = [entry[EVAL_LOSS] for entry in self.state.log_history if EVAL_LOSS in entry]
        return figures | ({EVAL_LOSS: held_out[-1]} if held_out else {})

    def _resume_from(self) -> Path | None:
        """The newest checkpoint; what a crash left half written is removed."""
        shutil.rmtree(str(self.args.output_dir), ignore_errors=True)
        return self.checkpoints.newest()

    def _is_finished(self, checkpoint: Path) -> bool:
        """Whether SIGTERM came in the last step; then its weights are loaded, none is trained.

        Trainer would go on behind the plan's end, where that lies within an epoch.
        """
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.global_step < state.max_steps:
            return False
        self._load_from_checkpoint(str(checkpoint))
        self.state = state
        self.callback_handler.on_train_begin(self.args, self.state, self.control)
        return True

    def _evened(self) -> Evened:
        rows, blank = cast(Any, self.train_dataset), cast(Any, self.data_collator).blank
        return Evened(rows, processes.count() * self.args.per_device_train_batch_size, blank)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        batch_size = processes.count() * self.args.per_device_train_batch_size
        groups = None
        if self.lengths is not None:
            groups = LengthGroups(self.lengths, batch_size, self.args.seed)
        if processes.count() == 1:
            return groups or super()._get_train_sampler(train_dataset)
        rows = cast(Evened, self.train_dataset)
        # the order that accelerate gives a single process
        shuffled = groups or SeedableRandomSampler(rows.rows, data_seed=self.args.seed)
        self.order = EvenedOrder(shuffled, len(rows))
        return self.order

    def _clip_grad_norm(self, model: torch.nn.Module) -> torch.Tensor:
        """Clip, and look: a NaN loss makes every gradient NaN, so one look a step sees both."""
        norm: torch.Tensor = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        scaler = self.accelerator.scaler
        # in float16 the loss was scaled too far: the scaler passes over the step and scales less
        scaled_too_far = scaler is not None and scaler.get_scale() > 1
        if not math.isfinite(float(norm)) and not scaled_too_far:
            self.num_bad_steps += 1
            if self.num_bad_steps > self.max_bad_steps:
                raise FloatingPointError(
                    f"step {self.state.global_step + 1}: the gradient's norm is {float(norm)} "
                    f"(bad steps: {self.num_bad_steps}, max_bad_steps: {self.max_bad_steps}); "
                    "lower learning_rate or look at the rows of this batch. Last good checkpoint: "
                    f"{processes.by_main(self.checkpoints.newest)}"
                )
            model.zero_grad(set_to_none=True)  # AdamW passes over parameters without a gradient
        return norm

    def training_step(self, model: Any, inputs: dict[str, Any], *more: Any) -> torch.Tensor:
        """Trainer's own, counted: padding is left out where a mask tells it."""
        mask = inputs.get("attention_mask")
        count_tokens("trained", inputs["input_ids"].numel() if mask is None else int(mask.sum()))
        loss: torch.Tensor = super().training_step(model, inputs, *more)
        return loss

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Let Trainer write to a staging folder, then publish it whole.

        Each process writes the state of its random generators, the main one the rest.
        """
        _check_parameters(self.model)
        super()._save_checkpoint(model, trial)
        staged = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        processes.wait()
        processes.by_main(lambda: self.checkpoints.publish(staged))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Trainer's own, but of an adapter's checkpoint no embedding is part.

        PEFT would ask the hub in the middle of training for the config of the base's branch `main`,
        to see whether they were resized since.
        """
        if isinstance(self.model, PeftModel):
            adapter = partial(PeftModel.save_pretrained, self.model, save_embedding_layers=False)
            self.model.save_pretrained = adapter  # type: ignore[method-assign]
        super()._save(output_dir, state_dict)


class SaveAndStop(TrainerCallback):
    """Ends training with a checkpoint after the step in which it was asked to."""

    def __init__(self, asked: Interruption) -> None:
        self.asked = asked

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if processes.agreed(self.asked.asked):
            control.should_save = control.should_training_stop = True


class SameEpoch(TrainerCallback):
    """Tells the order its epoch: of a resumed epoch, accelerate does not where rows are shared."""

    def __init__(self, trainer: GuardedTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self.trainer.order is not None
        self.trainer.order.set_epoch(int(state.epoch))


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
        figures = {name: float(logs[name]) for name in KEPT if name in (logs or {})}
        if "loss" in figures:
            figures["seconds"] = time.perf_counter() - self.started
        if "loss" in figures or EVAL_LOSS in figures:
            self.curves.log(state.global_step, figures)


class ProgressBar(ProgressCallback):
    """Trainer's bar without the dictionaries that it prints between, and seldom in a log."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        super().on_train_begin(args, state, control, **more)  # type: ignore[no-untyped-call]
        if self.training_bar is not None:
            self.training_bar.mininterval = self.training_bar.maxinterval = seconds_between()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}", refresh=False)


def arguments(
    recipe: TrainRecipe,
    checkpoints: Checkpoints,
    kind: type[TrainingArguments],
    model: torch.nn.Module,
    **more: Any,
) -> Any:
    """A section's values under the names that Transformers uses."""
    runtime = Runtime.from_environment()
    precision = dtype(runtime, architecture_of(model))
    staging = checkpoints.folder / "staging"
    made = kind(
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
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,  # with a loss scaler
        use_cpu=device(runtime).type == "cpu",
        ddp_find_unused_parameters=False,  # what is trained takes part in every batch
        report_to="none",  # curves go through Curves: the same names in every stage
        **more,
    )
    if processes.count() == 1:
        # else Trainer splits each batch over all GPUs of the machine, unasked (DataParallel)
        made._n_gpu = min(made.n_gpu, 1)
    return made


def _check_parameters(model: torch.nn.Module | None) -> None:
    """No weight that is trained is NaN or infinite."""
    assert model is not None
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise FloatingPointError(f"{name} holds NaN or infinite values; lower learning_rate")
