"""Stages in children that can be killed, for tests; everything is imported once, before they fork.

Each line of standard input is a JSON list: stage, folder of its inputs, folder to work in, and the
seconds after which the child is killed (null: never). The answer is a line of what became of it:
0 after success, -9 after a kill. A child leaves the artifact's path in `<folder to work in>/made`.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from posttrain.align import ppo, reward_model, self_critique
from posttrain.artifacts import BaseModel, Folder, Policy, RewardModel, Tokens
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.train import base_finetune, sft


def train(stage: str, world: Path) -> Folder[Any]:
    """Run a stage on `tokens`, `domain`, `assistant`, `reward` and `<stage>.json` of a folder."""
    recipe = (world / f"{stage}.json").read_bytes()
    tokens, domain = Tokens(world / "tokens"), BaseModel(world / "domain")
    assistant = Policy(world / "assistant")
    if stage == "base_finetune":
        return base_finetune.train(tokens, domain, BaseFinetuneRecipe.model_validate_json(recipe))
    if stage == "sft":
        return sft.train(tokens, domain, SftRecipe.model_validate_json(recipe))
    if stage == "reward_model":
        section = RewardModelRecipe.model_validate_json(recipe)
        return reward_model.train(tokens, domain, assistant, section)
    if stage == "ppo":
        reward = RewardModel(world / "reward")
        return ppo.train(tokens, domain, assistant, reward, PpoRecipe.model_validate_json(recipe))
    critique = SelfCritiqueRecipe.model_validate_json(recipe)
    return self_critique.train(tokens, domain, assistant, assistant, critique)[0]


def child(stage: str, world: Path, work: Path) -> None:
    """Run the stage with folders of its own; never comes back."""
    log = os.open(work / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    for name in ("work", "checkpoints", "cache"):
        os.environ[f"POSTTRAIN_{name.upper()}"] = str(work / name)
    status = 1
    try:
        (work / "made").write_text(str(train(stage, world).path), encoding="utf-8")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def watch(process: int, seconds: float | None) -> int:
    """Wait for the child, and kill it when its time is over."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            os.kill(process, signal.SIGKILL)
            end = None
        time.sleep(0.005)


def main() -> None:
    """Serve until standard input closes."""
    for line in sys.stdin:
        stage, world, work, seconds = json.loads(line)
        Path(work).mkdir(parents=True, exist_ok=True)
        process = os.fork()
        if process == 0:
            child(stage, Path(world), Path(work))
        sys.stdout.write(f"{watch(process, seconds)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
