"""Many at once: first commands on an empty state, runs of one recipe, runs by the clock."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults import LEVEL, Injected, times
from tests.integration.conftest import ROOT, Checkout

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 1800
MANY = 8

FIRST_COMMANDS = """
import sys
from pathlib import Path
from cli.doctor import doctor
from cli.stack import embedded
embedded(Path(sys.argv[1]))
doctor()
from zenml.client import Client
print("STACK", Client().active_stack_model.name)
"""

RUNS = """
import json, sys
import steps
from zenml.client import Client
found = []
for run in Client().list_pipeline_runs(sort_by="desc:created", size=int(sys.argv[1])).items:
    made = run.steps["sft"].outputs["assistant"][0] if "sft" in run.steps else None
    policy = made.load() if made else None
    found.append({
        "status": run.status.value,
        "cached": sorted(n for n, s in run.steps.items() if s.status.value == "cached"),
        "seed": run.config.parameters["recipe"]["sft"]["seed"],
        "policy": policy.content_hash() if policy else None,
        "history": (policy.path / "history.jsonl").read_text() if policy else None,
    })
print(json.dumps(found))
"""


@pytest.mark.fault(
    "State", "8 first commands at once", "`stack embedded` and `doctor`, no state yet"
)
def test_eight_first_commands_at_once_find_one_state(tmp_path: Path, injected: Injected) -> None:
    script = tmp_path / "first.py"
    script.write_text(FIRST_COMMANDS)
    for attempt in range(times(quick=1, few=1, full=20)):
        state = tmp_path / str(attempt)
        variables = os.environ | {
            "PYTHONPATH": str(ROOT),
            "ZENML_CONFIG_PATH": str(state / "zenml"),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow.db'}",
            "POSTTRAIN_WORK": str(state / "work"),
        }
        running = [
            subprocess.Popen(
                [sys.executable, str(script), str(state)],
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(MANY)
        ]
        said = [one.communicate(timeout=PATIENCE_SECONDS)[0] for one in running]
        failed = [
            text[-2000:]
            for one, text in zip(running, said, strict=True)
            if one.returncode or "STACK posttrain" not in text
        ]
        injected.add(MANY, lost=len(failed))
        assert not failed, failed[0]


@pytest.mark.fault("State", "2 runs of one recipe at once", "the same command twice, no cache")
def test_two_runs_of_one_recipe_at_once_keep_their_files_apart(
    checkout: Checkout, injected: Injected
) -> None:
    for _ in range(times(quick=1, few=1, full=3)):
        config = uncached(checkout, sft__max_steps=30, sft__checkpoint_every_steps=3)
        running = [start(checkout, config) for _ in range(2)]
        assert [one.wait(PATIENCE_SECONDS) for one in running] == [0, 0], log_of(checkout)
        first, second = runs(checkout, 2)
        injected.add(2, lost=first["policy"] != second["policy"])
        assert first["status"] == second["status"] == "completed"
        assert first["cached"] == second["cached"] == []
        assert first["policy"] == second["policy"] is not None
        said = (checkout.root / "runs.log").read_text("utf-8", errors="replace")
        assert "goes on from checkpoint" not in said  # of the other's, there was none of its own
        assert not list(checkout.root.glob(".posttrain/checkpoints/*/checkpoint-*"))


@pytest.mark.skipif(LEVEL != "full", reason="eight runs on one machine: make test-faults")
@pytest.mark.fault("State", "8 scheduled runs at once", "8 clocks that strike in one second")
def test_eight_scheduled_runs_at_once_all_end_well(checkout: Checkout, injected: Injected) -> None:
    clocks = []
    for seed in range(MANY):
        config = uncached(checkout, sft__seed=100 + seed)
        named = config.rename(checkout.root / f"scheduled-{seed}.yaml")
        command = [str(Path(sys.executable).parent / "posttrain"), "schedule", "run"]
        command += ["--cron", "0 * * * * *", "-c", named.name, "--pipeline", "fine_tuning"]
        command += ["--attempts", "1", "--state", "clocks"]
        with (checkout.root / f"clock-{seed}").open("wb") as output:
            clocks.append(
                subprocess.Popen(
                    command, cwd=checkout.root, env=checkout.environment, stderr=output
                )
            )
    logs = [checkout.root / f"clock-{seed}" for seed in range(MANY)]
    until = time.monotonic() + PATIENCE_SECONDS
    while not all("attempt 1" in log.read_text("utf-8") for log in logs):
        assert time.monotonic() < until
        time.sleep(0.2)
    for clock in clocks:
        clock.send_signal(signal.SIGTERM)  # it ends after the run in progress
    assert [clock.wait(PATIENCE_SECONDS) for clock in clocks] == [0] * MANY
    found = runs(checkout, MANY)
    injected.add(MANY, lost=sum(one["status"] != "completed" for one in found))
    assert {one["status"] for one in found} == {"completed"}
    assert {one["seed"] for one in found} == set(range(100, 100 + MANY))
    assert len({one["policy"] for one in found}) == MANY


def uncached(checkout: Checkout, **changes: Any) -> Path:
    """The tiny run, every step of which works."""
    config = checkout.config(**changes)
    values = yaml.safe_load(config.read_text(encoding="utf-8")) | {"enable_cache": False}
    config.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return config


def start(checkout: Checkout, config: Path) -> "subprocess.Popen[bytes]":
    zenml = Path(sys.executable).parent / "zenml"
    target = "pipelines.fine_tuning.fine_tuning"
    with (checkout.root / "runs.log").open("ab") as log:
        return subprocess.Popen(
            [zenml, "pipeline", "run", target, "-c", config],
            cwd=checkout.root,
            env=checkout.environment,
            stdout=log,
            stderr=log,
        )


def runs(checkout: Checkout, number: int) -> list[dict[str, Any]]:
    """The newest; loading what they made compares every file with its hash."""
    script = checkout.root / "runs.py"
    script.write_text(RUNS)
    said = checkout.command("python", str(script), str(number)).stdout
    found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


def log_of(checkout: Checkout) -> str:
    return (checkout.root / "runs.log").read_text("utf-8", errors="replace")[-4000:]
