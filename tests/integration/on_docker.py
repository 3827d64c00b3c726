"""Runs on the stack of containers: started, watched, killed, and what the engine says of them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.docker_stack import LABEL
from tests.integration.conftest import Checkout

COMMAND = ("zenml", "pipeline", "run", "pipelines.post_training.post_training")
COMMAND += ("-s", "posttrain_docker", "-c")
TAG = "test"
"""Of the images: what else runs on the engine is left alone."""

TRAINED = "base_finetune"
"""The stage that these tests kill."""


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


def containers() -> list[dict[str, Any]]:
    """Every step's container, ended or not, in the order of their start."""
    ids = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL}").split()
    found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
    ours = [one for one in found if one["Config"]["Image"].endswith(f":{TAG}")]
    return sorted(ours, key=lambda container: str(container["Created"]))


def step_of(container: dict[str, Any]) -> str:
    words = container["Config"]["Cmd"]
    return str(words[words.index("--step_name") + 1])


def training() -> str | None:
    """The container that trains the base, while it runs."""
    for container in containers():
        if step_of(container) == TRAINED and container["State"]["Running"]:
            return str(container["Id"])
    return None


def forget() -> None:
    if found := [container["Id"] for container in containers()]:
        docker("rm", "--force", *found)


def checkpoints(world: Checkout) -> dict[int, Path]:
    """Step -> folder of each whole checkpoint of the stage."""
    folder = world.root / ".posttrain" / "checkpoints"
    return {int(path.name.partition("-")[2]): path for path in folder.glob("*/checkpoint-*")}


def last_checkpoint(world: Checkout) -> int:
    return max(checkpoints(world), default=0)


@dataclass
class Run:
    """One run of the pipeline's command, in a process."""

    process: "subprocess.Popen[str]"
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def until(self, met: Callable[[], Any], seconds: float = 900) -> Any:
        """What `met` gives once it gives something; fails when the run ends before."""
        end = time.monotonic() + seconds
        while not (found := met()):
            assert self.process.poll() is None, f"ended early:\n{self.said()[-5000:]}"
            assert time.monotonic() < end, f"nothing came within {seconds} s"
            time.sleep(0.1)
        return found

    def code(self) -> int:
        return self.process.wait(timeout=900)


@contextmanager
def running(world: Checkout, config: Path, name: str) -> Iterator[Run]:
    """Start the command; it is over when the block is left."""
    log = world.root / f"{name}.log"
    with log.open("w", encoding="utf-8") as stream:  # a pipe that nobody reads would fill up
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / COMMAND[0]), *COMMAND[1:], str(config)],
            cwd=world.root,
            env=world.environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Run(process, log)
    finally:
        process.kill()  # it ended long ago, where all is well
        process.wait()
