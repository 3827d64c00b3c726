"""Six stages on a tiny world, in processes that a test may kill or break from within."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Folder, Policy, RewardModel, Tokens
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.dpo import DpoRecipe
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe
from tests.posttrain.align import conftest as tiny

ROOT = Path(__file__).parents[3]

# the tiny world of alignment's tests: their fixtures are these tests' too
tokenizer, domain, assistant = tiny.tokenizer, tiny.domain, tiny.assistant
tokens, reward = tiny.tokens, tiny.reward

CONSTITUTION = """
principles:
- id: red
  principle: {ko: 빨강은 안 됩니다, en: no red}
  critique_request: {ko: "what is wrong ?", en: "what is wrong ?"}
  revision_request: {ko: "mend it .", en: "mend it ."}
"""

FITTING = {
    "learning_rate": 5e-3,
    "num_epochs": 6,
    "batch_size": 4,
    "log_every_steps": 2,
    "checkpoint_every_steps": 5,
}

KINDS: dict[str, type[Folder[Any]]] = {
    "base_finetune": BaseModel,
    "sft": Policy,
    "reward_model": RewardModel,
    "ppo": Policy,
    "self_critique": Policy,
    "dpo": Policy,
}


def sections(constitution: Path) -> dict[str, Section]:
    """Each stage's section: seconds long, with many checkpoints, and dropout where it may be."""
    lora = LoraRecipe(rank=4, alpha=8, dropout=0.1)
    samples = {"max_new_tokens": 8, "num_samples": 16}
    revising = {
        "constitution": str(constitution),
        "no_fault_markers": ("fine",),
        "instruction_kinds": ("critique",),
        "max_new_tokens": 16,
    }
    return {
        "base_finetune": BaseFinetuneRecipe(method="full", **FITTING),
        "sft": SftRecipe(method="lora", lora=lora, **FITTING),
        "reward_model": RewardModelRecipe(**FITTING, **samples),
        "ppo": PpoRecipe(
            num_iterations=8,
            batch_size=12,
            learning_rate=3e-3,
            target_kl=0.5,
            max_new_tokens=12,
            num_held_out=16,
            held_out_set="revision",
        ),
        "self_critique": SelfCritiqueRecipe(**FITTING, **revising),
        "dpo": DpoRecipe(**FITTING, max_new_tokens=8, held_out_set="rollout"),
    }


@pytest.fixture(scope="session")
def world(
    tokenizer: PreTrainedTokenizerFast,
    domain: BaseModel,
    assistant: Policy,
    tokens: Tokens,
    reward: RewardModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Every input of every stage in one folder."""
    folder = tmp_path_factory.mktemp("world")
    for name, artifact in (("domain", domain), ("assistant", assistant), ("reward", reward)):
        shutil.copytree(artifact.path, folder / name)
    copied = shutil.copytree(tokens.path, folder / "tokens")
    pq.write_table(pa.Table.from_pylist(corpus(tokenizer)), copied / "corpus.parquet")
    Tokens.write(copied, "tokenize", tokens.facts)
    (folder / "constitution.yaml").write_text(CONSTITUTION, encoding="utf-8")
    for stage, section in sections(folder / "constitution.yaml").items():
        (folder / f"{stage}.json").write_text(section.model_dump_json(), encoding="utf-8")
    return folder


def corpus(tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    rows = []
    for index in range(60):
        text = f"on day {index} the sky is {tiny.WORDS[index % 4]} indeed"
        ids = tokenizer(text)["input_ids"]
        rows.append({"split": "train", "input_ids": ids, "lengths": [len(ids)]})
    return rows


class Runner:
    """A process with everything imported, whose children run stages."""

    def __init__(self, process: subprocess.Popen[str], world: Path) -> None:
        self.process = process
        self.world = world

    def run(self, stage: str, work: Path, **more: Any) -> int:
        """What became of the stage: an exit status, or a signal's number below zero.

        Args:
            stage: its name.
            work: folder of its own.
            more: `signal` and `seconds` until it comes; `fault` for `inject.py`; `stop_at`, the
                checkpoint after which `signal` comes.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"stage": stage, "world": str(self.world), "work": str(work), **more}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="session")
def runner(world: Path) -> Iterator[Runner]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "POSTTRAIN_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, str(Path(__file__).parent / "run_stage.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        yield Runner(process, world)
        assert process.stdin is not None
        process.stdin.close()


def made(stage: str, work: Path) -> Folder[Any]:
    path = Path((work / "made").read_text(encoding="utf-8"))
    return KINDS[stage](path).verify()


def weights(artifact: Folder[Any]) -> dict[str, bytes]:
    files = artifact.path.rglob("*.safetensors")
    return {file.relative_to(artifact.path).as_posix(): file.read_bytes() for file in files}


def log_of(work: Path) -> str:
    """What its processes wrote."""
    return (work / "log").read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Made:
    """What a stage makes that nothing disturbs, and how long it takes."""

    artifact: Folder[Any]
    seconds: float

    def is_equalled(self, stage: str, work: Path) -> bool:
        """Whether another run made the same bytes, and left no checkpoint."""
        found = made(stage, work)
        return (
            weights(found) == weights(self.artifact)
            and found.content_hash() == self.artifact.content_hash()
            and not list(work.glob("checkpoints/*/checkpoint-*"))
        )


Whole = Callable[[str], Made]


@pytest.fixture(scope="session")
def whole(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What a stage makes that nothing disturbs, once a session."""
    known: dict[str, Made] = {}

    def run(stage: str) -> Made:
        if stage not in known:
            for _ in range(2):  # the second is timed without what a machine does but once
                work = tmp_path_factory.mktemp(stage)
                begun = time.monotonic()
                status = runner.run(stage, work)
                seconds = time.monotonic() - begun
                assert status == 0, log_of(work)
            known[stage] = Made(made(stage, work), seconds)
        return known[stage]

    return run
