"""Stages on two processes: what they make, how they end. Each start takes about ten seconds."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch.testing import assert_close

from posttrain.artifacts import BaseModel, Policy, Records, Tokens
from posttrain.cost import costs_of
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.launch import num_processes, run, write_job
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.runtime import Runtime
from posttrain.tracking import read_history
from posttrain.train import base_finetune, sft
from posttrain.train.interrupt import Interrupted
from tests import launched
from tests.store import migrated_store as migrated_store
from tests.store import registry as registry

TOLERANCE = 1e-4
"""Of a weight, relative to the largest of its tensor: sums are taken in another order."""

FAST = {"learning_rate": 1e-2, "num_epochs": 2, "log_every_steps": 1}
LORA = LoraRecipe(rank=4, alpha=8)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def tokens(records: Records, base: BaseModel) -> Tokens:
    chats = template(records, base, TemplateRecipe())
    return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes it two processes from here on."""
    return lambda: monkeypatch.setenv("POSTTRAIN_PROCESSES", "2")


def assert_equal_weights(one: Path, other: Path) -> None:
    expected, found = load_file(one), load_file(other)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        largest = float(tensor.abs().max())
        assert_close(found[name], tensor, rtol=0, atol=TOLERANCE * largest, msg=name)


def assert_equal_curves(one: Path, other: Path) -> None:
    expected, found = read_history(one), read_history(other)
    assert [point["step"] for point in found] == [point["step"] for point in expected]
    for point, like in zip(found, expected, strict=True):
        timeless = {name: value for name, value in point.items() if name != "seconds"}
        assert timeless == pytest.approx({name: like[name] for name in timeless}, rel=1e-4)


@pytest.mark.slow
def test_sft_on_two_processes_equals_one_with_the_same_global_batch(
    tokens: Tokens, base: BaseModel, two: Callable[[], None]
) -> None:
    """The last batch of an epoch is not full, and the lot of the second process is blank."""
    num_rows = len(list(sft.packed(tokens.path / "instructions.parquet", 64, "train")))
    assert num_rows % 6 in (1, 2, 3)
    recipe = SftRecipe(lora=LORA, batch_size=6, evaluate_each_epoch=True, **FAST)
    alone = run(sft.train, tokens, base, recipe)
    assert "eval_loss" in alone.facts.figures
    two()
    together = run(sft.train, tokens, base, recipe.model_copy(update={"batch_size": 3}))
    weights = "adapter/adapter_model.safetensors"
    assert_equal_weights(alone.path / weights, together.path / weights)
    assert_equal_curves(alone.path, together.path)
    assert together.verify().facts.figures == pytest.approx(alone.facts.figures, rel=1e-4)
    work = Runtime.from_environment().work
    assert not list(work.glob("launch-*"))  # nor what the second process wrote there


@pytest.mark.slow
def test_base_ft_on_two_processes_equals_one_that_accumulates(
    tokens: Tokens, base: BaseModel, two: Callable[[], None]
) -> None:
    recipe = BaseFinetuneRecipe(method="full", batch_size=2, accumulation_steps=2, **FAST)
    alone = run(base_finetune.train, tokens, base, recipe)
    two()
    recipe = BaseFinetuneRecipe(method="full", batch_size=2, **FAST)
    together = run(base_finetune.train, tokens, base, recipe)
    weights = "weights/model.safetensors"
    assert_equal_weights(alone.path / weights, together.path / weights)
    assert_equal_curves(alone.path, together.path)
    one, both = (costs_of([base])[-1] for base in (alone, together))
    assert both.tokens["trained"] == pytest.approx(one.tokens["trained"], rel=0.05)  # blank rows
    assert both.peak_bytes - both.bytes_at_start > 2 * 100 * 2**20  # two more interpreters


@pytest.mark.slow
def test_torchrun_on_two_nodes_makes_what_one_process_does(
    tokens: Tokens, base: BaseModel, tmp_path: Path
) -> None:
    """As k8s/train-job.yaml starts it; two launchers on one machine are the nodes."""
    alone = run(sft.train, tokens, base, SftRecipe(method="lora", lora=LORA, batch_size=6, **FAST))
    job = tmp_path / "job.json"
    recipe = SftRecipe(method="lora", lora=LORA, batch_size=3, **FAST)
    write_job(job, sft.train, tokens, base, recipe)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={address}"]
    command += ["--module", "posttrain.launch", "posttrain.train.sft", str(job)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    nodes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [node.wait(300) for node in nodes] == [0, 0]
    made = TypeAdapter(Policy).validate_json((tmp_path / "result.json").read_bytes())
    assert_equal_weights(
        alone.path / "adapter/adapter_model.safetensors",
        made.verify().path / "adapter/adapter_model.safetensors",
    )


@pytest.mark.slow
def test_two_interrupted_processes_save_and_end_in_the_same_bytes(
    tokens: Tokens, base: BaseModel, two: Callable[[], None]
) -> None:
    two()
    recipe = SftRecipe(
        method="lora", lora=LORA, batch_size=2, learning_rate=1e-2, num_epochs=30, log_every_steps=1
    )
    whole = run(sft.train, tokens, base, recipe)
    length = len(read_history(whole.path))
    work = Runtime.from_environment().work

    def interrupt() -> None:
        while not any(
            len(read_history(path)) > 5 for path in set(work.glob("sft-*")) - {whole.path}
        ):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=interrupt, daemon=True)
    watcher.start()
    with pytest.raises(Interrupted, match=rf"at step \d+ of {length}; run the same command"):
        run(sft.train, tokens, base, recipe)
    resumed = run(sft.train, tokens, base, recipe)
    file = "adapter/adapter_model.safetensors"
    assert (resumed.path / file).read_bytes() == (whole.path / file).read_bytes()
    assert len(read_history(resumed.path)) == length


@pytest.mark.slow
def test_processes_share_threads_and_the_steps_mlflow_run(
    two: Callable[[], None],
    registry: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two()
    monkeypatch.setenv("POSTTRAIN_THREADS", "4")
    with mlflow.start_run() as active:
        met = run(launched.train, "meet", tmp_path)
        ours = registry.get_run(active.info.run_id)
        assert ours.info.status == "RUNNING"
    assert met.ranks == (0, 1)
    assert met.threads == (2, 2)
    assert met.work[0] == Runtime.from_environment().work
    assert met.work[1] != met.work[0]
    assert ours.data.metrics == {"meet/rank": 0}
    found = registry.search_runs([active.info.experiment_id])
    assert [one.info.run_id for one in found] == [active.info.run_id]


def test_a_users_mistake_reads_as_such(two: Callable[[], None], tmp_path: Path) -> None:
    two()
    with pytest.raises(ValueError, match=r"^sft: the run has no instructions") as raised:
        run(launched.train, "refuse", tmp_path)
    assert "launched.py" in raised.value.__notes__[0]
    assert gone(tmp_path)


@pytest.mark.slow
def test_when_one_process_is_killed_the_others_end(two: Callable[[], None], tmp_path: Path) -> None:
    two()
    with pytest.raises(RuntimeError) as raised:
        run(launched.train, "die", tmp_path)
    # the other may have been ended before it could tell that its neighbour is gone
    words = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", [])])
    assert "left no word" in words
    assert gone(tmp_path)


@pytest.mark.slow
def test_sigterm_ends_processes_that_cannot_save(two: Callable[[], None], tmp_path: Path) -> None:
    two()

    def interrupt() -> None:
        wait_for(lambda: len(pids(tmp_path)) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupted, match="ended where it could not save"):
        run(launched.train, "sleep", tmp_path)
    assert gone(tmp_path)


@pytest.mark.slow
def test_no_process_outlives_the_step(two: Callable[[], None], tmp_path: Path) -> None:
    two()
    code = (
        "from pathlib import Path; from posttrain.launch import run; from tests import launched; "
        f"run(launched.train, 'sleep', Path({str(tmp_path)!r}))"
    )
    step = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        wait_for(lambda: len(pids(tmp_path)) == 2)
    finally:
        step.kill()
        step.wait()
    wait_for(lambda: gone(tmp_path))


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def gone(folder: Path) -> bool:
    """Whether the processes that left their ids have ended."""
    found = pids(folder)
    assert len(found) == 2
    return not any(Path(f"/proc/{pid}").exists() for pid in found)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.1)


def test_auto_is_one_process_without_a_gpu() -> None:
    assert num_processes(Runtime(processes="auto", device="cpu")) == 1
    assert num_processes(Runtime(processes=3, device="cpu")) == 3
