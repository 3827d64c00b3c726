"""ZenML's own command by the clock: the second run finds nothing new, and says so."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 400


def test_a_run_that_finds_nothing_new_ends_by_the_cache_and_says_so(checkout: Checkout) -> None:
    config = checkout.config()
    said = checkout.root / "said"
    command = [str(Path(sys.executable).parent / "posttrain"), "schedule", "run"]
    command += ["--cron", "* * * * * *", "-c", config.name, "--pipeline", "fine_tuning"]
    with said.open("wb") as output:
        clock = subprocess.Popen(
            [*command, "--state", "clock"],
            cwd=checkout.root,
            env=checkout.environment,
            stderr=output,
        )
    until = time.monotonic() + PATIENCE_SECONDS
    while said.read_text("utf-8").count("done") < 2:
        assert time.monotonic() < until and clock.poll() is None, said.read_text("utf-8")
        time.sleep(0.5)
    clock.send_signal(signal.SIGTERM)
    assert clock.wait(PATIENCE_SECONDS) == 0
    ends = [
        line.split(" ", 2)[2] for line in said.read_text("utf-8").splitlines() if "done" in line
    ]
    nothing = "done: nothing new in its data or settings, all but register and promote is cached"
    assert ends[:2] == ["done", nothing]
