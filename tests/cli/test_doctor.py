"""`posttrain doctor` finds a run that was really killed, and lets a live one be."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults import Injected, times

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 300
STATUSES = """
from zenml.client import Client
for run in Client().list_pipeline_runs(hydrate=True).items:
    print("RUN", run.name, run.status.value, *(step.status.value for step in run.steps.values()))
"""

pytestmark = pytest.mark.slow


class Store:
    """A ZenML and an MLflow of the test's own."""

    def __init__(self, folder: Path, migrated: Path) -> None:
        self.folder, self.uri = folder, f"sqlite:///{folder}/mlflow.db"
        shutil.copy(migrated, folder / "mlflow.db")
        self.environment = os.environ | {
            "ZENML_CONFIG_PATH": str(folder / "zenml"),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_CUSTOM_SOURCE_ROOT": str(ROOT),
            "PYTHONPATH": str(ROOT),
            "POSTTRAIN_WORK": str(folder / "work"),
            "MLFLOW_TRACKING_URI": self.uri,
            "COLUMNS": "300",
        }

    def say(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def doctor(self, *words: str) -> str:
        return self.say("-c", "from cli.main import main; main()", "doctor", *words)

    def statuses(self) -> dict[str, list[str]]:
        """Run -> its status, and its steps'."""
        script = self.folder / "statuses.py"
        script.write_text(STATUSES)
        lines = [line.split() for line in self.say(str(script)).splitlines()]
        return {words[1]: words[2:] for words in lines if words and words[0] == "RUN"}

    def start(self, notes: Path) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            run = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.waiting_run", str(notes)],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + PATIENCE_SECONDS
        while not (notes.exists() and notes.read_text("utf-8")):
            log_of = (self.folder / "log").read_text("utf-8")[-2000:]
            assert time.monotonic() < until and run.poll() is None, log_of
            time.sleep(0.1)
        return run

    def tracked(self) -> dict[str, set[str]]:
        """Name of MLflow's parent run -> statuses of it and of those in it."""
        client = MlflowClient(self.uri)
        found = client.search_runs(["0"])
        names = {run.info.run_id: run.info.run_name for run in found}
        statuses: dict[str, set[str]] = {}
        for run in found:
            parent = run.data.tags.get("mlflow.parentRunId", run.info.run_id)
            statuses.setdefault(names[parent], set()).add(run.info.status)
        return statuses


@pytest.fixture
def store(migrated_store: Path, tmp_path: Path) -> Iterator[Store]:
    yield Store(tmp_path, migrated_store)


@pytest.mark.fault("State", "a run is killed", "SIGKILL in mid-step; `posttrain doctor` is asked")
def test_a_killed_run_is_marked_and_a_live_one_is_not(
    store: Store, tmp_path: Path, injected: Injected
) -> None:
    live = store.start(tmp_path / "live")
    try:
        for number in range(times(quick=1, few=1, full=5)):
            killed = store.start(tmp_path / f"killed-{number}")
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        dead = {file.read_text("utf-8") for file in tmp_path.glob("killed-*")}
        running = (tmp_path / "live").read_text("utf-8")

        told = store.doctor("--dry-run")
        assert set(store.statuses()) == {*dead, running}
        assert all(status == ["running"] * 2 for status in store.statuses().values())
        assert "would be marked" in told

        told = store.doctor()
        expected = {name: ["failed"] * 2 for name in dead} | {running: ["running"] * 2}
        found = store.statuses()
        injected.add(len(dead), lost=sum(found[name] != expected[name] for name in expected))
        assert found == expected
        assert store.tracked() == {name: {"FAILED"} for name in dead} | {running: {"RUNNING"}}
        assert f"cd {tmp_path} && waiting_run.py" in told
        assert f"process {live.pid} runs it; left alone" in told
        assert "unfinished runs: 1; of a process that is gone: 0" in store.doctor()
    finally:
        live.kill()
        live.wait()


def test_what_a_killed_run_had_no_time_to_tell_is_sent(store: Store, tmp_path: Path) -> None:
    """The spool's thread gathers for half a second: a kill before that leaves a line."""
    killed = store.start(tmp_path / "killed")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    store.doctor()
    metrics = [run.data.metrics for run in MlflowClient(store.uri).search_runs(["0"])]
    assert {"train/loss": 1.0, "result/steps": 3.0} in metrics
    assert not list((tmp_path / "work" / "spool").glob("*.jsonl"))
