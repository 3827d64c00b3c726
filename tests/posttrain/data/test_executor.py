"""Near-duplicates by several processes, and on Ray where it is installed (the extra `ray`)."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posttrain.data.duplicates import NearCopy, near_copies
from posttrain.data.executor import run_tasks
from posttrain.recipe.validation import NearDuplicates

NUM_SHARDS, ROWS = 3, 20


def shard(number: int) -> Iterator[tuple[int, str]]:
    """Texts of 40 words; the tenth of each shard is nearly that of the first shard."""
    for row in range(number * ROWS, (number + 1) * ROWS):
        start = 9 if row % ROWS == 9 else row
        yield row, " ".join(f"낱말{start * 40 + word}" for word in range(40)) + f" {row}"


def copies() -> list[NearCopy]:
    shards = [partial(shard, number) for number in range(NUM_SHARDS)]
    flags = np.zeros(NUM_SHARDS * ROWS, np.bool_)
    return list(near_copies(shards, NearDuplicates(), flags, is_across=True))


def fail(_: Any, rank: int, world_size: int) -> Iterator[None]:
    yield from ()
    assert rank != 1, world_size


EXPECTED = [(29, 9), (49, 9)]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_two_workers_find_what_one_finds(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    monkeypatch.setenv("POSTTRAIN_CORPUS_EXECUTOR", executor)
    monkeypatch.setenv("POSTTRAIN_CORPUS_WORKERS", "2")
    assert [(copy.row, copy.of) for copy in copies()] == EXPECTED


def test_one_process_finds_them() -> None:
    assert [(copy.row, copy.of) for copy in copies()] == EXPECTED


@pytest.mark.slow
def test_a_failed_task_on_ray_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("POSTTRAIN_CORPUS_EXECUTOR", "ray")
    with pytest.raises(RuntimeError, match="1 of 3 DataTrove tasks did not finish"):
        run_tasks([fail], 3, tmp_path / "logs")


def test_ray_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("POSTTRAIN_CORPUS_EXECUTOR", "ray")
    with pytest.raises(ValueError, match=r"posttrain\[ray\]"):
        run_tasks([fail], 1, tmp_path / "logs")
