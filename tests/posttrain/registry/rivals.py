"""Processes that promote at the same moment, or die in the middle of it.

`python -m tests.posttrain.registry.rivals race|kill|contend ...` forks them before MLflow's store
is touched, and prints what became of each as a JSON list. The real client is counted, not replaced.
"""

import json
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from posttrain.decisions import RegisteredVersion
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry import lock, promotions
from posttrain.registry.promote import promote
from posttrain.registry.versions import read_evaluation

FORK = multiprocessing.get_context("fork")
WRITES = (
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_registered_model_tag",
    "set_model_version_tag",
    "delete_registered_model",
)
LEASE_SECONDS = 3.0
"""Of those who contend; they write nothing, so that a slow machine breaks none of their leases."""

GATE = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.5),))


def race(uri: str, rounds: int) -> list[dict[str, Any]]:
    """Two processes, each round with a version of its own and the same champion before it."""
    barrier, results = FORK.Barrier(2), FORK.Queue()

    def compete(me: int) -> None:
        client = MlflowClient(uri)
        for number in range(rounds):
            barrier.wait()
            before = promotions.champion_of(client, "museum")
            version = next(one for one in (me, me + 2) if one != before)
            barrier.wait()
            told = {"round": number, "version": version, "before": before, "won": True}
            try:
                promotions.move(
                    client,
                    "museum",
                    version,
                    action="promote",
                    who=f"rival {me}",
                    why=f"round {number}",
                    expected_champion=before,
                )
            except promotions.ChampionChanged as error:
                told |= {"won": False, "why": str(error)}
            results.put(told)

    return _gathered([lambda me=me: compete(me) for me in (1, 2)], results, 2 * rounds)


def contend(uri: str, number: int) -> list[dict[str, Any]]:
    """One dies with the lock in its hands; others, at the same moment, want it."""
    lock.LEASE_SECONDS = LEASE_SECONDS

    def die() -> None:
        with lock.exclusive(MlflowClient(uri), "museum", "the one that dies"):
            os.kill(os.getpid(), signal.SIGKILL)

    dying = FORK.Process(target=die)
    dying.start()
    dying.join()
    died = time.monotonic()
    results = FORK.Queue()

    def hold(me: int) -> None:
        with lock.exclusive(MlflowClient(uri), "museum", f"contender {me}"):
            since = time.monotonic() - died
            time.sleep(0.5)
            results.put({"who": me, "since": since, "until": time.monotonic() - died})

    return _gathered([lambda me=me: hold(me) for me in range(number)], results, number)


def kill(folder: Path, action: str) -> list[dict[str, Any]]:
    """Carry out an action on copies of `mlflow.db`, killed after its first write, its second..."""
    told = []
    for number in range(1, 100):
        file = folder / f"{action}-{number}.db"
        shutil.copy(folder / "mlflow.db", file)
        process = FORK.Process(target=_killed, args=(f"sqlite:///{file}", action, number))
        process.start()
        process.join()
        told.append({"file": str(file), "died": process.exitcode == -signal.SIGKILL})
        if process.exitcode == 0:
            return told
        assert told[-1]["died"], process.exitcode
    raise AssertionError(f"{action} writes without end")


def _killed(uri: str, action: str, after: int) -> None:
    mlflow.set_tracking_uri(uri)
    client, count = MlflowClient(), [0]
    version = client.get_model_version("museum", "2")
    evaluation = read_evaluation(client, version)
    assert evaluation is not None

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(write)
        def called(*args: Any, **named: Any) -> Any:
            result = write(*args, **named)
            count[0] += 1
            if count[0] == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return called

    for name in WRITES:
        setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    if action == "promote":
        content = version.tags["content_hash"]
        entry = RegisteredVersion(name="museum", version=2, content_hash=content, is_new=True)
        assert promote(entry, evaluation, GATE).promoted
    elif action == "rollback":
        promotions.roll_back(client, "museum", who="kim", why="wrong answers")
    else:
        promotions.reject(client, "museum", 2, who="kim", why="wrong answers")


def _gathered(jobs: list[Callable[[], None]], results: Any, number: int) -> list[dict[str, Any]]:
    processes = [FORK.Process(target=job, daemon=True) for job in jobs]
    for process in processes:
        process.start()
    told: list[dict[str, Any]] = []
    while len(told) < number:
        try:
            told.append(results.get(timeout=1))
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise SystemExit("a rival died") from None  # what it said stands on stderr
    for process in processes:
        process.join()
    return told


if __name__ == "__main__":
    what, where, how = sys.argv[1:]
    if what == "kill":
        found = kill(Path(where), how)
    else:
        found = (race if what == "race" else contend)(where, int(how))
    sys.stdout.write(json.dumps(found))
