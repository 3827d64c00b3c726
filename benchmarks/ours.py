"""The library's own training as arms: its trainers, built as its stages build them, then run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from benchmarks.harness import Arm, Bench, Watch
from benchmarks.material import SEED
from posttrain.artifacts import BaseModel, Tokens
from posttrain.models.device import prepare
from posttrain.models.generate import evaluating
from posttrain.recipe.sft import SftRecipe
from posttrain.tracking import Curves
from posttrain.train import sft
from posttrain.train.checkpoints import checkpoints_of
from posttrain.train.collate import IGNORED

Precision = Literal["float32", "bfloat16"]


@contextmanager
def precision(name: Precision) -> Iterator[None]:
    """What `POSTTRAIN_DTYPE` asks for, for a while."""
    os.environ["POSTTRAIN_DTYPE"] = name
    try:
        yield
    finally:
        del os.environ["POSTTRAIN_DTYPE"]


@torch.no_grad()
def loss_a_token(trainer: Any) -> float:
    """Of all that a trainer is about to learn, by its own rows, collator, model and loss.

    Arms that start from the same weights agree on it if they learn the same tokens.
    """
    rows, size = list(trainer.train_dataset), trainer.args.per_device_train_batch_size
    total = count = 0.0
    with evaluating(trainer.model):
        for start in range(0, len(rows), size):
            batch = trainer._prepare_inputs(trainer.data_collator(rows[start : start + size]))
            learned = int((batch["labels"][:, 1:] != IGNORED).sum())
            with trainer.compute_loss_context_manager():
                total += float(trainer.compute_loss(trainer.model, batch)) * learned
            count += learned
    return total / count


def sft_arm(
    name: str,
    bench: Bench,
    base: BaseModel,
    tokens: Tokens,
    recipe: SftRecipe,
    num_tokens: int,
    dtype: Precision = "float32",
) -> Arm:
    """SFT's training, as many passes as the recipe has; loading and packing are not timed."""

    def run(watch: Watch) -> None:
        prepare(SEED)
        with precision(dtype):
            checkpoints = checkpoints_of("sft", recipe, tokens, base)
            model = sft.to_train(base, recipe)
            trainer = sft.new_trainer(model, tokens, base, recipe, checkpoints)
            watch.note(loss=loss_a_token(trainer))
            with watch.timing():
                figures = trainer.run(recipe, checkpoints, Curves(bench.folder / name, "sft"))
        checkpoints.forget()
        watch.count(num_tokens * recipe.num_epochs)
        watch.note(last_loss=figures["loss"])

    return Arm(name, run, dtype)
