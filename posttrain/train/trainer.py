"""What Transformers' Trainer lacks: whole checkpoints, a NaN that stops, curves, a count of steps.

A mixin for Trainer and for TRL's trainers; no training logic of its own.
"""

import json
import logging
import math
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.data_loader import SeedableRandomSampler
from peft import PeftModel
from torch.utils.data import Sampler
from transformers import ProgressCallback, Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from posttrain import processes
from posttrain.cost import count_tokens
from posttrain.models.compiled import compiled
from posttrain.models.device import architecture_of, device, dtype, kernels
from posttrain.recipe.train import TrainRecipe
from posttrain.runtime import Runtime
from posttrain.tracking import Curves, log_parameters
from posttrain.train.callbacks import (
    EVAL_LOSS,
    CurvesCallback,
    Guard,
    ProgressBar,
    SameEpoch,
    SaveAndStop,
)
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.even import Evened, EvenedOrder
from posttrain.train.finite import (
    ROWS,
    Numbered,
    NumberedCollator,
    SeenBatch,
    Tolerance,
    blame,
    check_weights,
)
from posttrain.train.interrupt import Interrupted, interruption
from posttrain.train.length_groups import LengthGroups
from posttrain.train.shortage import check_memory, checkpoint_bytes

GUARD = "guard.json"
"""In a checkpoint: how many of the steps that the recipe bears were used up before it, and the sum
of the losses since the last one that was logged. Trainer forgets those, and the curve of a run that
was killed would differ."""

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class GuardedTrainer(Trainer):
    """Mixed in before a Trainer: `class SftTrainer(GuardedTrainer, SFTTrainer)`.

    With several processes, a step sees the rows that one process with as many times the batch size
    would see: the collator's `blank` rows fill the last batch up, where Trainer repeats others.
    """

    checkpoints: Checkpoints
    stage: str = "training"
    lengths: Sequence[int] | None = None
    """Of the rows, where those of like lengths are to share a batch."""
    order: EvenedOrder | None = None
    """Of the rows, where several processes share them."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.tolerance = Tolerance()
        self.kept: dict[str, Any] | None = None
        """What the checkpoint that training goes on from says of its steps."""
        self.seen_batches: list[SeenBatch] = []
        """Of the step at hand."""

    def run(
        self, recipe: TrainRecipe, checkpoints: Checkpoints, curves: Curves
    ) -> dict[str, float]:
        """Train to the planned step, from the newest whole checkpoint if there is one.

        Returns:
            Final figures: steps, mean loss over the last tenth of the logged points, the last
            held-out loss where one was measured.

        Raises:
            FloatingPointError: a NaN or infinite loss or gradient beyond the recipe's tolerance, or
                such a weight.
            DiskFull: its checkpoints have no room.
            OutOfMemory: gradients and optimizer have none.
            Interrupted: SIGTERM came; the step at hand was finished and saved.
            RuntimeError: training ended before the planned step.
        """
        self.checkpoints, self.stage = checkpoints, curves.stage
        self.tolerance = Tolerance(recipe.max_bad_steps)
        assert self.model is not None
        runtime = Runtime.from_environment()
        chosen = kernels(runtime, architecture_of(self.model))
        log_parameters(curves.stage, {"kernels": chosen, "compiled": runtime.compile})
        self.remove_callback(ProgressCallback)
        self.add_callback(ProgressBar())
        self.add_callback(CurvesCallback(curves))
        resume = processes.by_main(self._resume_from)
        if resume is not None:
            logging.getLogger(__name__).info("%s: goes on from %s", curves.stage, resume.name)
            self.kept = json.loads((resume / GUARD).read_bytes())
            self.tolerance.seen = self.kept["bad_steps"]
        if processes.count() > 1:
            self.train_dataset = cast(Any, self._evened())
            self.add_callback(SameEpoch(self))
            torch.manual_seed(recipe.seed + processes.rank())  # each drops out what it likes
        self.add_callback(Guard(self))
        layers = compiled(self.model) if runtime.compile else nullcontext()
        with interruption() as asked, checkpoints.named(), layers:
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
        logged = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        losses = [loss for loss in logged if math.isfinite(loss)]  # a step left out had no number
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

    def _get_dataloader(self, dataset: Any, *more: Any, **named: Any) -> Any:
        """Trainer's own, whose batches say which rows they hold."""
        collator, self.data_collator = self.data_collator, NumberedCollator(self.data_collator)
        try:
            return super()._get_dataloader(Numbered(dataset), *more, **named)
        finally:
            self.data_collator = collator

    def training_step(self, model: Any, inputs: dict[str, Any], *more: Any) -> torch.Tensor:
        """Trainer's own, counted: padding is left out where a mask tells it."""
        rows, mask = inputs.pop(ROWS), inputs.get("attention_mask")
        count_tokens("trained", inputs["input_ids"].numel() if mask is None else int(mask.sum()))
        loss: torch.Tensor = super().training_step(model, inputs, *more)
        self.seen_batches.append(SeenBatch(rows, loss))
        return loss

    def _clip_grad_norm(self, model: torch.nn.Module) -> torch.Tensor:
        """Clip, and look at the norm and at the losses: an infinite one may leave no trace."""
        norm: torch.Tensor = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        bad = processes.agreed(not all(batch.is_finite for batch in self.seen_batches))
        scaler = self.accelerator.scaler
        # in float16 the loss was scaled too far: the scaler passes over the step and scales less
        scaled_too_far = scaler is not None and scaler.get_scale() > 1
        if bad or (not math.isfinite(float(norm)) and not scaled_too_far):
            why = blame(self.seen_batches, self.train_dataset, float(norm))
            self.tolerance.bear(f"{self.stage} step {self.state.global_step + 1}: {why}")
            model.zero_grad(set_to_none=True)  # AdamW passes over parameters without a gradient
        return norm

    def check_room(self) -> None:
        """Before the first step: checkpoints, gradients and moments have theirs."""
        if self.optimizer is None:  # all steps were done before SIGTERM: nothing is trained
            return
        weights = list(self.trained().values())
        if processes.is_main():
            # one more where SIGTERM comes
            saves = 1 + self.state.max_steps // int(self.args.save_steps)
            self.checkpoints.check_room(self.stage, weights, saves)
        check_memory(self.stage, weights, has_moments=bool(self.optimizer.state))

    def restore_losses(self) -> None:
        """Those between the last that was logged and the checkpoint."""
        if self.kept is not None and self.optimizer is not None:  # else all steps are done
            self._tr_loss += self.kept["unlogged_loss"]
            self._globalstep_last_logged = self.kept["last_logged_step"]

    def check_weights(self, step: int, what: str = "") -> None:
        """None is NaN or infinite."""
        check_weights(self.trained(), f"{self.stage} step {step}{what}")

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Let Trainer write to a staging folder, then publish it whole.

        Each process writes the state of its random generators, the main one the rest.
        """
        self.check_weights(self.state.global_step)
        staged = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        with self.checkpoints.writing(staged, checkpoint_bytes(self.trained().values())):
            super()._save_checkpoint(model, trial)
            unlogged = float(processes.summed(self._tr_loss.clone())) / processes.count()
            processes.wait()
            processes.by_main(lambda: self._publish(staged, unlogged))

    def _publish(self, staged: Path, unlogged_loss: float) -> None:
        kept = {
            "bad_steps": self.tolerance.seen,
            "unlogged_loss": unlogged_loss,
            "last_logged_step": self._globalstep_last_logged,
        }
        (staged / GUARD).write_text(json.dumps(kept), encoding="ascii")
        self.checkpoints.publish(staged)

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The weights that learn."""
        assert self.model is not None
        return {name: one for name, one in self.model.named_parameters() if one.requires_grad}

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Trainer's own, but of an adapter's checkpoint no embedding is part.

        PEFT would ask the hub in the middle of training for the config of the base's branch `main`,
        to see whether they were resized since.
        """
        if isinstance(self.model, PeftModel):
            adapter = partial(PeftModel.save_pretrained, self.model, save_embedding_layers=False)
            self.model.save_pretrained = adapter  # type: ignore[method-assign]
        super()._save(output_dir, state_dict)


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
