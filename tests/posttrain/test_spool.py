"""MLflow may be slow, silent or killed: training does not wait, and each point arrives once."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from posttrain import spool
from posttrain.artifacts import BaseModel, Records
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.spool_file import Line, SpoolFile
from posttrain.tracking import read_history
from posttrain.train import sft
from tests.faults import Injected, times
from tests.mlflow_server import MlflowServer, Proxy, mlflow_server, proxy
from tests.store import migrated_store
from tests.tiny_run import tokens_of

__all__ = ["migrated_store"]

WAITING_SHARE = 0.01
"""Of the training's time, at most, in calls that leave something for MLflow."""

LOGGER = """
import sys
import mlflow
from pathlib import Path
from posttrain.tracking import Curves
uri, run, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
mlflow.start_run(run)
curves = Curves(Path(folder), "sft")
for step in range(1, 41):
    curves.log(step, {"loss": 1 / step})
from posttrain import spool
spool.flush(60)
"""


@pytest.fixture(scope="module")
def server(
    migrated_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow") / "server", migrated_store) as running:
        yield running


@pytest.fixture(autouse=True)
def no_run_stays_active() -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    yield
    while mlflow.active_run():  # of a test that failed
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def points(uri: str, run: str, name: str = "train/loss") -> list[tuple[int, float]]:
    """All of a curve, as the store has it."""
    history = MlflowClient(uri).get_metric_history(run, name)
    return sorted((point.step, point.value) for point in history)


def new_run(uri: str) -> str:
    return str(MlflowClient(uri).create_run("0").info.run_id)


@pytest.fixture
def uri(migrated_store: Path, tmp_path: Path) -> str:
    shutil.copy(migrated_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_a_line_that_is_sent_twice_is_one_point(uri: str) -> None:
    run = new_run(uri)
    for step in range(5):
        values = {"train/loss": float("nan") if step == 3 else 0.5}
        spool.put(Line(tracking_uri=uri, run_id=run, milliseconds=7, step=step, metrics=values))
    assert spool.flush()
    (mark,) = spool.folder().glob("*.sent")
    mark.unlink()
    file = SpoolFile(mark.with_suffix(".jsonl"))
    assert file.send() == 5
    assert [step for step, _ in points(uri, run)] == [0, 1, 2, 3, 4]


def test_a_line_that_mlflow_refuses_is_kept_apart(uri: str) -> None:
    run = new_run(uri)
    for name in ("good", "bad\nname", "better"):
        spool.put(Line(tracking_uri=uri, run_id=run, milliseconds=1, metrics={name: 1.0}))
    assert spool.flush()
    assert MlflowClient(uri).get_run(run).data.metrics == {"good": 1.0, "better": 1.0}
    (refused,) = spool.folder().glob("*.refused")
    assert len(refused.read_text("utf-8").splitlines()) == 1


def test_half_a_line_of_a_killed_process_is_no_line(uri: str) -> None:
    run = new_run(uri)
    line = Line(tracking_uri=uri, run_id=run, milliseconds=1, metrics={"train/loss": 2.0})
    spool.folder().mkdir(parents=True)
    whole = line.model_dump_json() + "\n"
    (spool.folder() / "1-dead.jsonl").write_text("\0\0\n" + whole + whole[:40], "utf-8")
    assert spool.send_left() == 0
    assert points(uri, run) == [(0, 2.0)]
    (refused,) = spool.folder().iterdir()
    assert refused.read_bytes() == b"\0\0\n"


@pytest.mark.fault(
    "State", "a process is killed as it tells MLflow", "SIGKILL after MLflow took it, before a note"
)
def test_a_sender_killed_before_its_note_sends_nothing_twice(
    server: MlflowServer, tmp_path: Path, injected: Injected
) -> None:
    for attempt in range(times(quick=1, few=4, full=20)):
        run = new_run(server.uri)
        with proxy(server) as between:
            environment = {**os.environ, "POSTTRAIN_WORK": str(tmp_path / str(attempt))}
            words = [between.uri, run, str(tmp_path / f"curves-{attempt}")]
            logs = subprocess.Popen([sys.executable, "-c", LOGGER, *words], env=environment)

            def kill(asked: bytes, answered: bytes, pid: int = logs.pid) -> None:
                if b"log-batch" in asked:
                    os.kill(pid, signal.SIGKILL)

            between.on_answer = kill
            assert logs.wait(120) == -signal.SIGKILL
            between.on_answer = lambda asked, answered: None
            place = tmp_path / str(attempt) / "spool"
            assert 0 < len(points(server.uri, run)) <= 40
            assert spool.send_left(place) == 0
        written = len((tmp_path / f"curves-{attempt}" / "history.jsonl").read_text().splitlines())
        found = points(server.uri, run)
        injected.add(lost=len(set(found)) != written)
        # the kill may have come between the file's line and the spool's
        assert [step for step, _ in found] == list(range(1, len(found) + 1))
        assert written - 1 <= len(found) <= written


class Clock:
    """Seconds within calls that leave something for MLflow, while they do what they do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waited = 0.0
        put = spool.put

        def timed(line: Line) -> None:
            begun = time.perf_counter()
            put(line)
            self.waited += time.perf_counter() - begun

        monkeypatch.setattr(spool, "put", timed)


STEPS, EVERY = 100, 4

RECIPE = SftRecipe(
    method="lora",
    lora=LoraRecipe(rank=4, alpha=8),
    learning_rate=1e-3,
    num_epochs=1,
    max_steps=STEPS,
    batch_size=24,
    log_every_steps=EVERY,
)

FAULTS = {
    "stopped, then going on": 4,
    "killed and started again": 12,
    "a second late with each answer": 2,
    "away from the first step to the last": 2,
}
"""Way -> times at full; the first is `make test`'s, for starting a server takes seconds."""

MOST = list(FAULTS)[: times(quick=1, few=4, full=4)]


@contextmanager
def trouble(
    way: str, server: MlflowServer, between: Proxy, chance: random.Random
) -> Iterator[None]:
    """A server in trouble while something is done, and well again after it."""
    if way.startswith("a second late"):
        between.delay_seconds = 1.0
        yield
        between.delay_seconds = 0.0
        return
    if way.startswith("away"):
        server.kill()
        yield
        server.start()
        return

    def fail() -> None:
        time.sleep(chance.uniform(0.2, 2))
        if way.startswith("killed"):
            server.kill()
            server.start()
        else:
            server.signal(signal.SIGSTOP)
            time.sleep(3)
            server.signal(signal.SIGCONT)

    failing = threading.Thread(target=fail)
    failing.start()
    yield
    failing.join()


@pytest.mark.fault(
    "State", "MLflow fails in mid-training", "killed, stopped, away or a second late; real server"
)
@pytest.mark.parametrize("way", MOST)
def test_training_does_not_wait_and_every_point_arrives_once(
    way: str,
    server: MlflowServer,
    records: Records,
    base: BaseModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    injected: Injected,
    record_property: Callable[[str, object], None],
) -> None:
    tokens = tokens_of(records, base)
    for attempt in range(times(quick=1, few=1, full=FAULTS[way])):
        monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", str(tmp_path / f"checkpoints-{attempt}"))
        clock = Clock(monkeypatch)
        with proxy(server) as between:
            mlflow.set_tracking_uri(between.uri)
            run = new_run(server.uri)
            mlflow.start_run(run)
            with trouble(way, server, between, random.Random(attempt)):
                begun = time.perf_counter()
                trained = sft.train(tokens, base, RECIPE)
                seconds = time.perf_counter() - begun
            assert spool.flush(60)
            mlflow.end_run()
        expected = [line["loss"] for line in read_history(trained.path)]
        found = points(server.uri, run)
        injected.add(lost=len(found) != len(expected))
        assert found == list(zip(range(EVERY, STEPS + 1, EVERY), expected, strict=True))
        assert clock.waited < WAITING_SHARE * seconds, (clock.waited, seconds)
        record_property(f"share waited, {way}", clock.waited / seconds)
