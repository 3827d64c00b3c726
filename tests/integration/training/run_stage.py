"""Stages in children that can be killed, for tests; everything is imported once, before they fork.

Each line of standard input is an order in JSON: stage, folder of its inputs, folder to work in, and
perhaps a signal with the seconds after which the child gets it or the checkpoint that it waits for,
and a fault to inject. The answer is a line of what became of the child: its status, 0 after
success, or a signal's number below zero. It leaves the artifact's path in `made`, where it works.
"""

import math
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from posttrain.align import dpo, ppo, reward_model, self_critique
from posttrain.artifacts import BaseModel, Folder, Policy, RewardModel, Tokens
from posttrain.launch import run
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.dpo import DpoRecipe
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.train import base_finetune, sft
from tests.integration.training.inject import Fault, inject


class Order(Section):
    """What a child is to do, and what is done to it."""

    stage: str
    world: Path
    work: Path
    signal: int | None = None
    seconds: float = math.inf
    """Until the signal."""

    stop_at: str | None = None
    """Checkpoint that the signal waits for."""

    fault: Fault | None = None

    def is_due(self, since: float) -> bool:
        """Whether it is time for the signal."""
        if self.signal is None:
            return False
        if self.stop_at is not None:
            return bool(list(self.work.glob(f"checkpoints/{self.stop_at}/seal.json")))
        return time.monotonic() - since >= self.seconds


def train(stage: str, world: Path) -> Folder[Any]:
    """Run a stage on `tokens`, `domain`, `assistant`, `reward` and `<stage>.json` of a folder."""
    recipe = (world / f"{stage}.json").read_bytes()
    tokens, domain = Tokens(world / "tokens"), BaseModel(world / "domain")
    assistant = Policy(world / "assistant")
    if stage == "base_finetune":
        section = BaseFinetuneRecipe.model_validate_json(recipe)
        return run(base_finetune.train, tokens, domain, section)
    if stage == "sft":
        return run(sft.train, tokens, domain, SftRecipe.model_validate_json(recipe))
    if stage == "reward_model":
        judging = RewardModelRecipe.model_validate_json(recipe)
        return run(reward_model.train, tokens, domain, assistant, judging)
    if stage == "ppo":
        reward, rewarded = RewardModel(world / "reward"), PpoRecipe.model_validate_json(recipe)
        return run(ppo.train, tokens, domain, assistant, reward, rewarded)
    if stage == "dpo":
        return run(dpo.train, tokens, domain, assistant, DpoRecipe.model_validate_json(recipe))
    critique = SelfCritiqueRecipe.model_validate_json(recipe)
    return run(self_critique.train, tokens, domain, assistant, assistant, critique)[0]


def child(order: Order) -> None:
    """Run the stage with folders of its own; never comes back."""
    log = os.open(order.work / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    for name in ("work", "checkpoints", "cache"):
        os.environ[f"POSTTRAIN_{name.upper()}"] = str(order.work / name)
    status = 1
    try:
        if order.fault is not None:
            inject(order.fault, order.work)
        made = train(order.stage, order.world)
        (order.work / "made").write_text(str(made.path), encoding="utf-8")
        status = 0
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            status = error.code
    finally:
        os._exit(status)


def watch(process: int, order: Order) -> int:
    """Wait for the child, and send it the signal when it is due, once."""
    since, is_sent = time.monotonic(), False
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if not is_sent and order.is_due(since):
            assert order.signal is not None
            os.kill(process, order.signal)
            is_sent = True
        time.sleep(0.005)


def main() -> None:
    """Serve until standard input closes."""
    for line in sys.stdin:
        order = Order.model_validate_json(line)
        order.work.mkdir(parents=True, exist_ok=True)
        process = os.fork()
        if process == 0:
            child(order)
        sys.stdout.write(f"{watch(process, order)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
