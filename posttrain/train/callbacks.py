"""What is done at a trainer's steps, beside training: saving, looking, telling."""

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from transformers import ProgressCallback, TrainerCallback

from posttrain import processes
from posttrain.progress import seconds_between
from posttrain.tracking import Curves
from posttrain.train.finite import bad_weight, batches_of
from posttrain.train.interrupt import Interruption

if TYPE_CHECKING:
    from posttrain.train.trainer import GuardedTrainer

EVAL_LOSS = "eval_loss"
"""Trainer's name of the loss on held-out rows."""

KEPT = (
    *("loss", "grad_norm", "learning_rate", "accuracy", "margin", "mean_token_accuracy"),
    EVAL_LOSS,
)
"""What becomes a curve of all that is logged."""


class SaveAndStop(TrainerCallback):
    """Ends training with a checkpoint after the step in which it was asked to."""

    def __init__(self, asked: Interruption) -> None:
        self.asked = asked

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if processes.agreed(self.asked.asked):
            control.should_save = control.should_training_stop = True


class Guard(TrainerCallback):
    """Looks at room before the first step, and at the weights after each; restores the losses."""

    def __init__(self, trainer: "GuardedTrainer") -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.check_room()
        self.trainer.restore_losses()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.seen_batches.clear()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if bad_weight(self.trainer.trained()) is not None:
            # only then are the rows read again, to be named
            rows = batches_of(self.trainer.seen_batches, self.trainer.train_dataset)
            self.trainer.check_weights(state.global_step + 1, f", {rows}")


class SameEpoch(TrainerCallback):
    """Tells the order its epoch: of a resumed epoch, accelerate does not where rows are shared."""

    def __init__(self, trainer: "GuardedTrainer") -> None:
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
