"""What is no number is seen in its step, in a loss, a gradient and a weight; rows are named."""

import logging
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from posttrain.artifacts import BaseModel, Tokens
from posttrain.models.load import load_base
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.train import base_finetune, sft
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.finite import bad_weight, listed
from posttrain.train.interrupt import Interrupted
from tests.faults import Injected
from tests.integration.training.inject import Fault, inject

FAST = {
    "learning_rate": 1e-2,
    "num_epochs": 3,
    "batch_size": 2,
    "log_every_steps": 2,
    "checkpoint_every_steps": 2,
}
FULL = BaseFinetuneRecipe(method="full", **FAST)


@contextmanager
def broken(folder: Path, what: str, after: int, value: str = "nan") -> Iterator[None]:
    handles = inject(Fault.model_validate({"what": what, "after": after, "value": value}), folder)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_weight_is_named(value: float) -> None:
    weights = {"one": nn.Parameter(torch.ones(2, 3)), "two": nn.Parameter(torch.full((4,), 3e38))}
    weights["none of it here"] = nn.Parameter(torch.empty(0))
    assert bad_weight(weights) is None
    weights["two"].data[2] = value
    assert bad_weight(weights) == "two"


def test_an_error_names_so_many_rows_as_a_person_reads() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(50)]).endswith("30, 31 and 18 more")


@pytest.mark.fault("Training", "a NaN or an infinity", "in the loss, the gradient or a weight")
@pytest.mark.parametrize("what", ["loss", "gradient", "weight"])
def test_the_step_and_its_rows_are_named_and_the_last_good_checkpoint(
    tokens: Tokens, base: BaseModel, tmp_path: Path, injected: Injected, what: str
) -> None:
    recipe = SftRecipe(method="lora", lora=LoraRecipe(rank=4, alpha=8), **FAST)
    step = 4 if what == "weight" else 5  # what goes bad after step 4 is met in the next
    rows = r"batch 1 of 1.*: rows i\d+, i\d+"
    with (
        broken(tmp_path, what, after=4, value="inf"),
        pytest.raises(FloatingPointError, match=rf"^sft step {step}[:,] .*{rows}") as caught,
    ):
        sft.train(tokens, base, recipe)
    (folder,) = (tmp_path / "checkpoints").glob("sft-*")
    newest = folder / ("checkpoint-2" if what == "weight" else "checkpoint-4")
    note = f"The last good checkpoint is {newest.name} in {folder}."
    kept = Checkpoints(folder).newest()
    injected.add(lost=kept != newest)
    assert (kept, caught.value.__notes__) == (newest, [note])


def test_a_rate_that_overflows_is_seen_in_the_next_step(tokens: Tokens, base: BaseModel) -> None:
    recipe = FULL.model_copy(update={"learning_rate": 1e30, "warmup_share": 0.0})
    with pytest.raises(FloatingPointError, match=r"base_finetune step 2: .*: rows block \d+"):
        base_finetune.train(tokens, base, recipe)


def test_a_borne_step_is_left_out_and_told(
    tokens: Tokens, base: BaseModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = FULL.model_copy(update={"max_bad_steps": 1})
    with broken(tmp_path, "gradient", after=3), caplog.at_level(logging.WARNING):
        domain = base_finetune.train(tokens, base, recipe)
    assert "step 4: the gradient's norm is nan: batch 1 of 1: rows block" in caplog.text
    assert "(bad steps: 1, max_bad_steps: 1); the step is left out" in caplog.text
    assert all(bool(torch.isfinite(weight).all()) for weight in load_base(domain).parameters())


def test_borne_steps_are_counted_beyond_the_process(
    tokens: Tokens, base: BaseModel, tmp_path: Path
) -> None:
    recipe = FULL.model_copy(update={"max_bad_steps": 1})

    def ask(optimizer: Any, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with broken(tmp_path, "loss", after=0), pytest.raises(Interrupted):
        handle = register_optimizer_step_post_hook(ask)
        try:
            base_finetune.train(tokens, base, recipe)
        finally:
            handle.remove()
    with broken(tmp_path, "loss", after=0), pytest.raises(FloatingPointError, match="steps: 2, "):
        base_finetune.train(tokens, base, recipe)
