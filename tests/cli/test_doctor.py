"""`posttrain doctor` finds a run that was really killed, and lets a live one be."""

import json
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
ASK = """
import json, sys
from contextlib import redirect_stdout
from io import StringIO
from cli.doctor import doctor
from zenml.client import Client

def said(dry_run):
    with redirect_stdout(StringIO()) as out:
        doctor(dry_run)
    runs = Client().list_pipeline_runs(hydrate=True).items
    states = {r.name: [r.status.value, *(s.status.value for s in r.steps.values())] for r in runs}
    return out.getvalue(), states

print(json.dumps([said(True), said(False), said(False)]))
"""
"""Three times in one process: to look, to mark, and to look again."""

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

    def doctor(self) -> list[tuple[str, dict[str, list[str]]]]:
        """Each time what it said, and run -> its status and its steps' after that."""
        script = self.folder / "ask.py"
        script.write_text(ASK)
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: list[tuple[str, dict[str, list[str]]]] = json.loads(done.stdout.splitlines()[-1])
        return found

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

        looked, marked, again = store.doctor()
        assert looked[1] == {name: ["running"] * 2 for name in (*dead, running)}
        assert "would be marked" in looked[0]

        expected = {name: ["failed"] * 2 for name in dead} | {running: ["running"] * 2}
        injected.add(len(dead), lost=sum(marked[1][name] != expected[name] for name in expected))
        assert marked[1] == expected
        assert store.tracked() == {name: {"FAILED"} for name in dead} | {running: {"RUNNING"}}
        assert f"go on: cd {tmp_path} && waiting_run.py" in marked[0]
        assert f"process {live.pid} runs it; left alone" in marked[0]
        assert "unfinished runs: 1; of a process that is gone: 0" in again[0]
        metrics = [run.data.metrics for run in MlflowClient(store.uri).search_runs(["0"])]
        assert metrics.count({"train/loss": 1.0, "result/steps": 3.0}) == len(dead) + 1
        assert len(list((tmp_path / "work" / "spool").glob("*.jsonl"))) == 1  # the live one's
    finally:
        live.kill()
        live.wait()
