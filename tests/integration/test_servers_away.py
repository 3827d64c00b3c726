"""A run whose servers are killed in its midst loses nothing, and ends when they are back."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults import Injected, times
from tests.integration.tracked_run import STEPS
from tests.mlflow_server import mlflow_server
from tests.store import migrated_store
from tests.zenml_server import ZenMLServer, zenml_server

__all__ = ["migrated_store"]

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 400

ZENML_ASKS_FOR_SECONDS = 25
"""ZenML's client asks a server that is away six times, in about 30 s."""


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_CUSTOM_SOURCE_ROOT": str(ROOT),
        "PYTHONPATH": str(ROOT),
        "POSTTRAIN_WORK": str(folder / "work"),
        "POSTTRAIN_PATIENCE_SECONDS": "300",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }


def wait_for(file: Path, run: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not file.exists():
        assert time.monotonic() < until and run.poll() is None, log.read_text("utf-8")[-3000:]
        time.sleep(0.1)


@pytest.mark.fault(
    "State", "MLflow is killed between steps", "as a step ends; the next begins; started again"
)
def test_mlflow_killed_at_a_steps_end_costs_neither_work_nor_curve(
    migrated_store: Path, tmp_path: Path, injected: Injected
) -> None:
    for attempt in range(times(quick=1, few=1, full=3)):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with mlflow_server(folder / "server", migrated_store) as server:
            assert server.process is not None
            words = [server.uri, str(server.process.pid), str(folder / "ended")]
            log = folder / "log"
            with log.open("wb") as output:
                run = subprocess.Popen(
                    [sys.executable, "-m", "tests.integration.tracked_run", *words],
                    cwd=folder,
                    env=environment(folder),
                    stdout=output,
                    stderr=output,
                )
            wait_for(folder / "ended", run, log)
            server.process.wait()
            time.sleep(3)
            server.start()
            assert run.wait(PATIENCE_SECONDS) == 0, log.read_text("utf-8")[-3000:]
            client = MlflowClient(server.uri)
            experiments = [one.experiment_id for one in client.search_experiments()]
            found = {one.info.run_name: one for one in client.search_runs(experiments)}
        metrics = found["sft"].data.metrics
        injected.add(lost=len(metrics) != STEPS)
        assert metrics == {f"result/loss_{number}": float(number) for number in range(STEPS)}
        assert found["evaluate"].data.metrics == {"result/version": 3.0}
        assert {one.info.status for one in found.values()} == {"FINISHED"}


@pytest.mark.fault(
    "State", "ZenML's server is killed in mid-step", "SIGKILL, started again at once"
)
def test_a_restart_of_zenmls_server_costs_a_run_nothing(tmp_path: Path, injected: Injected) -> None:
    with zenml_server(tmp_path / "server") as server:
        for attempt in range(times(quick=1, few=1, full=3)):
            run, log = begun(server, tmp_path, attempt)
            server.kill()
            (tmp_path / f"away-{attempt}").touch()
            since = time.monotonic()
            server.start()
            away = time.monotonic() - since
            ended = run.wait(PATIENCE_SECONDS)
            if ended != 0:  # the machine is too busy for a quick start: the same command goes on
                assert away > ZENML_ASKS_FOR_SECONDS, log.read_text("utf-8")[-3000:]
                run, log = begun(server, tmp_path, attempt)
                ended = run.wait(PATIENCE_SECONDS)
            injected.add(lost=ended != 0)
            assert ended == 0, log.read_text("utf-8")[-3000:]


@pytest.mark.fault(
    "State", "ZenML's server stays away in mid-step", "SIGKILL; back when the run has given up"
)
def test_a_run_that_gave_up_on_zenmls_server_is_found_and_goes_on(
    tmp_path: Path, injected: Injected
) -> None:
    with zenml_server(tmp_path / "server") as server:
        run, log = begun(server, tmp_path, 0)
        server.kill()
        (tmp_path / "away-0").touch()
        assert run.wait(PATIENCE_SECONDS) != 0
        server.start()
        variables = server.client(tmp_path / "client") | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from cli.main import main; main()", "doctor"]
        told = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stdout + told.stderr
        assert f"marked as failed; go on: cd {tmp_path} && slow_run.py" in told.stdout
        again, log = begun(server, tmp_path, 0)
        ended = again.wait(PATIENCE_SECONDS)
        injected.add(lost=ended != 0)
        assert ended == 0, log.read_text("utf-8")[-3000:]


def begun(
    server: ZenMLServer, folder: Path, attempt: int
) -> tuple["subprocess.Popen[bytes]", Path]:
    """A run in whose first step the process waits for a file."""
    works, away, log = (folder / f"{name}-{attempt}" for name in ("works", "away", "log"))
    works.unlink(missing_ok=True)
    variables = server.client(folder / "client")
    variables |= {"ZENML_CUSTOM_SOURCE_ROOT": str(ROOT), "PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        run = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.slow_run", str(works), str(away)],
            cwd=folder,
            env=variables,
            stdout=output,
            stderr=output,
        )
    wait_for(works, run, log)
    return run, log
