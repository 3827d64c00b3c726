"""Promotions at the same moment, and promotions that are killed: in processes of their own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from mlflow import MlflowClient

from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry import lock, promotions
from posttrain.registry.history import doubts
from posttrain.registry.register import register
from tests import samples
from tests.posttrain.registry.rivals import LEASE_SECONDS

ROOT = Path(__file__).parents[3]


def rivals(*words: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.posttrain.registry.rivals", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return told


def fill(folder: Path, num_versions: int) -> None:
    """Versions of `museum`, the one no better than the other."""
    base = samples.base_model(folder / "base")
    for number in range(1, num_versions + 1):
        policy = samples.policy(folder / f"policy-{number}", base, weights=str(number))
        evaluation = samples.evaluation(policy.content_hash())
        register(base, policy, evaluation, RegistrationRecipe(model_name="museum"), {})


def check_race(client: MlflowClient, told: list[dict[str, Any]], rounds: int) -> None:
    entries = promotions.history(client, "museum")
    assert [entry.number for entry in entries] == list(range(1, rounds + 1))
    for entry in entries:
        winners = [one for one in told if one["round"] == entry.number - 1]
        won = [one for one in winners if one["won"]]
        assert [one["version"] for one in won] == [entry.to_version]
        assert won[0]["before"] == entry.from_version
        (lost,) = (one for one in winners if not one["won"])
        assert f"version {entry.to_version}, and was expected to be" in lost["why"]
    assert all(after.from_version == before.to_version for before, after in pairwise(entries))
    assert doubts(entries, promotions.champion_of(client, "museum")) == ()
    models = [model.name for model in client.search_registered_models()]
    assert sum("-lock-" in name for name in models) == 1


def test_two_processes_never_both_promote(registry: MlflowClient, tmp_path: Path) -> None:
    fill(tmp_path, 4)
    check_race(registry, rivals("race", f"sqlite:///{tmp_path}/mlflow.db", "8"), 8)


@pytest.mark.slow
def test_a_hundred_rounds_have_a_hundred_winners(registry: MlflowClient, tmp_path: Path) -> None:
    fill(tmp_path, 4)
    check_race(registry, rivals("race", f"sqlite:///{tmp_path}/mlflow.db", "100"), 100)


@pytest.mark.slow
def test_two_processes_on_a_server(
    registry: MlflowClient, tmp_path: Path, mlflow_server: str
) -> None:
    fill(tmp_path, 4)
    check_race(registry, rivals("race", mlflow_server, "10"), 10)


@pytest.mark.slow
def test_of_three_that_want_a_dead_ones_lock_one_has_it_at_a_time(
    registry: MlflowClient, tmp_path: Path
) -> None:
    told = rivals("contend", f"sqlite:///{tmp_path}/mlflow.db", "3")
    held = sorted((one["since"], one["until"]) for one in told)
    assert len({one["who"] for one in told}) == 3
    assert held[0][0] >= LEASE_SECONDS
    assert all(before[1] <= after[0] for before, after in pairwise(held))


@pytest.mark.slow
@pytest.mark.parametrize("action", ["promote", "rollback", "reject"])
def test_a_kill_between_any_two_writes_leaves_the_old_or_the_new_champion(
    registry: MlflowClient, tmp_path: Path, action: str
) -> None:
    fill(tmp_path, 3)
    for version in (1, 3):
        promotions.move(registry, "museum", version, action="promote", who="lee", why="first ones")
    registry.set_registered_model_alias("museum", "challenger", "2")
    old, new = 3, {"promote": 2, "rollback": 1, "reject": 3}[action]
    told = rivals("kill", str(tmp_path), action)
    assert [one["died"] for one in told] == [True] * (len(told) - 1) + [False]
    assert len(told) > 6  # writes of the lock, the line, the aliases
    seen = []
    for one in told:
        client = MlflowClient(f"sqlite:///{one['file']}")
        seen.append(left := promotions.champion_of(client, "museum"))
        assert left in (old, new)
        dead = max(m.name for m in client.search_registered_models() if "-lock-" in m.name)
        client.set_registered_model_tag(dead, lock.LEASE, "0.2")  # in place of half a minute's wait
        with promotions.decide(client, "museum", "lee", 1) as state:
            pass  # any decision settles first
        assert state.champion == left
        entries = promotions.history(client, "museum")
        assert entries == state.entries
        assert doubts(entries, left) == ()
        states = [entry.state for entry in entries[2:]]  # of the line that was cut short
        wanted = "done" if left == new else "undone"  # a rejection is always carried out
        assert states in ([], [wanted])
        assert states == [wanted] or left == old
        aliases = client.get_registered_model("museum").aliases
        assert aliases.get("previous") == {3: 1, 2: 3, 1: None}[left]
        assert ("challenger" not in aliases) == (action == "reject" and bool(states))
    assert seen == sorted(seen, key=lambda champion: champion == new)  # old, old, new, new
    assert seen[-1] == new


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """A tracking server on loopback, over the test's own database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "2"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer")
