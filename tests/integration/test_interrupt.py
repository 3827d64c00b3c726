"""SIGTERM to ZenML's own command in mid-training; the same command goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 600
TARGET = "pipelines.fine_tuning.fine_tuning"


def test_a_run_that_sigterm_ended_failed_and_goes_on(checkout: Checkout) -> None:
    config = checkout.config(base_finetune__max_steps=300, base_finetune__checkpoint_every_steps=20)
    log = checkout.root / "log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            [Path(sys.executable).parent / "zenml", "pipeline", "run", TARGET, "-c", config],
            cwd=checkout.root,
            env=checkout.environment,
            stdout=output,
            stderr=output,
        )
    until = time.monotonic() + PATIENCE_SECONDS
    while not list(checkout.root.glob(".posttrain/checkpoints/*/checkpoint-*")):
        assert time.monotonic() < until and run.poll() is None, log.read_text("utf-8")[-3000:]
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    assert run.wait(PATIENCE_SECONDS) == 143
    assert "training ended at step" in log.read_text("utf-8")
    assert checkout.statuses()["base_finetune"] == "failed"
    assert run_status(checkout) == "failed"

    statuses = checkout.run("fine_tuning", config)
    assert statuses["tokenize"] == "cached"
    assert statuses["base_finetune"] == statuses["promote"] == "completed"
    assert run_status(checkout) == "completed"


def run_status(checkout: Checkout) -> str:
    script = checkout.root / "status.py"
    script.write_text(
        "from zenml.client import Client; "
        "print(Client().list_pipeline_runs(sort_by='desc:created', size=1).items[0].status.value)"
    )
    return checkout.command("python", str(script)).stdout.splitlines()[-1]
