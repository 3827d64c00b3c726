"""Stages killed outright (SIGKILL) at random moments end, run again, in the bytes of no kill."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Folder, Policy, RewardModel, Tokens
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe
from tests.faults import Injected, times
from tests.posttrain.align import conftest as tiny

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
KILLS = range(times(quick=1, few=4, full=50))

# the tiny world of alignment's tests: their fixtures are this module's too
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
    }


@pytest.fixture(scope="module")
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

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, stage: str, world: Path, work: Path, seconds: float | None = None) -> int:
        """What became of the stage: 0 after success, -9 where its seconds were over first."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = [stage, str(world), str(work), seconds]
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
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
        yield Runner(process)
        assert process.stdin is not None
        process.stdin.close()


def made(stage: str, work: Path) -> Folder[Any]:
    path = Path((work / "made").read_text(encoding="utf-8"))
    return KINDS[stage](path).verify()


def weights(artifact: Folder[Any]) -> dict[str, bytes]:
    files = artifact.path.rglob("*.safetensors")
    return {file.relative_to(artifact.path).as_posix(): file.read_bytes() for file in files}


def log_of(work: Path) -> str:
    return (work / "log").read_text(encoding="utf-8", errors="replace")[-3000:]


Whole = Callable[[str], tuple[Folder[Any], float]]


@pytest.fixture(scope="module")
def whole(runner: Runner, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What a stage makes that nothing kills, and its seconds."""
    known: dict[str, tuple[Folder[Any], float]] = {}

    def run(stage: str) -> tuple[Folder[Any], float]:
        if stage not in known:
            for _ in range(2):  # the second is timed without what a machine does but once
                work = tmp_path_factory.mktemp(stage)
                begun = time.monotonic()
                status = runner.run(stage, world, work)
                seconds = time.monotonic() - begun
                assert status == 0, log_of(work)
            known[stage] = made(stage, work), seconds
        return known[stage]

    return run


@pytest.mark.fault("Training", "a stage is killed", "SIGKILL at a random moment, five stages")
@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("stage", list(KINDS))
def test_a_killed_stage_ends_in_the_same_bytes(
    runner: Runner,
    world: Path,
    whole: Whole,
    tmp_path: Path,
    injected: Injected,
    stage: str,
    kill: int,
) -> None:
    expected, seconds = whole(stage)
    moment = seconds * (kill + random.Random(f"{stage} {kill}").random()) / len(KILLS)
    for attempt in range(8):  # one that was over before its kill came is no kill
        work = tmp_path / f"{stage}-{attempt}"
        status = runner.run(stage, world, work, moment)
        if status != 0:
            break
        moment /= 1.3
    assert status == -9, log_of(work)
    assert runner.run(stage, world, work) == 0, log_of(work)
    found = made(stage, work)
    injected.add(lost=weights(found) != weights(expected))
    assert weights(found) == weights(expected)
    assert found.content_hash() == expected.content_hash()
    assert not list(work.glob("checkpoints/*/checkpoint-*"))
