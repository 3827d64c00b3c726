"""Loss on the held-out conversations while SFT trains: after each epoch, and after the last step.

Our own in place of Trainer's evaluation, which averages the means of batches. Neither a random draw
nor a weight changes: a stage ends in the same bits with it and without.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from transformers import TrainerCallback

from posttrain import processes
from posttrain.models.generate import evaluating
from posttrain.train.callbacks import EVAL_LOSS
from posttrain.train.trainer import GuardedTrainer


class HeldOutTrainer(GuardedTrainer):
    """Mixed in before TRL's SFTTrainer, whose model hands out log-probabilities."""

    held_out: Sequence[Mapping[str, Any]] = ()
    """Packed rows; none where the recipe does not ask."""

    def evaluate_on(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Ask for the loss on these rows after each epoch."""
        self.held_out = rows
        self.add_callback(AfterEachEpoch())

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Log the mean loss of a supervised token, whatever the batch that it stands in."""
        assert self.model is not None
        with evaluating(self.model):  # TRL's `log` goes by the model's mode too
            figures = {EVAL_LOSS: self._held_out_loss()}
            self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, figures
        )
        return figures

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """Processes share the rows."""
        ours = self.held_out[processes.share_of(len(self.held_out))]
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        size = self.args.per_device_train_batch_size
        for start in range(0, len(ours), size):
            batch = cast(Any, self.data_collator)(ours[start : start + size])
            with self.compute_loss_context_manager():
                output = cast(Any, self.model)(
                    **self._prepare_inputs(batch), use_cache=False, fused_lm_head=True
                )
            total[0] -= output.log_probs.double().sum()  # 0 where no label is
            total[1] += output.label_mask.sum()
        loss, count = processes.summed(total).tolist()
        return float(loss / count)


class AfterEachEpoch(TrainerCallback):
    """Asks within the epoch's last step: a checkpoint of that step holds the figure then."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if float(state.epoch).is_integer() or state.global_step == state.max_steps:
            control.should_evaluate = True
