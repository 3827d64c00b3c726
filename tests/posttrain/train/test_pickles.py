"""A pickle that somebody puts into a checkpoint, its seal made anew, is not run."""

import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from posttrain.artifacts import BaseModel, Records, Tokens
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.hashes import sha256
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.train import sft
from posttrain.train.checkpoints import SEAL
from posttrain.train.interrupt import Interrupted
from posttrain.train.trainer import GuardedTrainer
from tests.faults import Injected

RECIPE = SftRecipe(
    method="lora",
    lora=LoraRecipe(rank=4, alpha=8),
    learning_rate=1e-2,
    num_epochs=12,
    batch_size=4,
    checkpoint_every_steps=2,
)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.open, (str(self.sentinel), os.O_CREAT)


class Stop(TrainerCallback):
    """SIGTERM in the fourth step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def interrupted(
    records: Records, base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tokens, Path]:
    """Tokens, and the checkpoints of a stage that was stopped on them."""
    chats = template(records, base, TemplateRecipe())
    tokens = tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))
    with monkeypatch.context() as patch:
        begin = GuardedTrainer.train

        def with_stop(self: GuardedTrainer, **more: Any) -> Any:
            self.add_callback(Stop())
            return begin(self, **more)

        patch.setattr(GuardedTrainer, "train", with_stop)
        with pytest.raises(Interrupted):
            sft.train(tokens, base, RECIPE)
    (folder,) = (path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    return tokens, folder


@pytest.mark.fault("Input", "a pickle lies in wait", "checkpoint with a new seal, sentinel file")
@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "adapter_model.bin"],
)
def test_a_pickle_in_a_checkpoint_is_not_run(
    name: str,
    interrupted: tuple[Tokens, Path],
    base: BaseModel,
    tmp_path: Path,
    injected: Injected,
) -> None:
    tokens, folder = interrupted
    sentinel = tmp_path / "sentinel"
    for checkpoint in folder.glob("checkpoint-*"):
        (checkpoint / name).write_bytes(pickle.dumps(Trap(sentinel)))
        files = [file for file in checkpoint.rglob("*") if file.is_file() and file.name != SEAL]
        seal = {file.relative_to(checkpoint).as_posix(): sha256(file) for file in files}
        (checkpoint / SEAL).write_text(json.dumps(seal), encoding="utf-8")
    if name in ("training_args.bin", "adapter_model.bin"):  # nobody reads them
        sft.train(tokens, base, RECIPE)
    else:
        with pytest.raises(Exception, match=r"(?i)weights.only"):
            sft.train(tokens, base, RECIPE)
    injected.add(lost=int(sentinel.exists()))
    assert not sentinel.exists()
