"""A disk that fills up, memory that runs out: asked for first, named in mid-run, gone on from."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import Injected, times
from tests.integration.training.conftest import KINDS, Runner, Whole, log_of
from tests.integration.training.test_numbers import newest_of

pytestmark = pytest.mark.slow

AFTER = (11, 13, 10)[: times(quick=1, few=1, full=3)]
"""Optimizer steps: a checkpoint stands, and there is more to save."""


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder of a run as a file system of its own, in memory."""
    folder = tmp_path / request.param
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "posttrain", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.fault(
    "Training", "the disk fills up", "another's file on a small file system, in mid-run, six stages"
)
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("disk", ["checkpoints", "work"], indirect=True)
@pytest.mark.parametrize("stage", list(KINDS))
def test_a_full_disk_is_named_and_gone_on_from(
    runner: Runner,
    whole: Whole,
    tmp_path: Path,
    disk: Path,
    injected: Injected,
    stage: str,
    after: int,
) -> None:
    """Of checkpoints, or of what is put together: curves, and the artifact at the end."""
    expected = whole(stage)
    fault = {"what": "disk", "after": after, "disk": disk.name}
    assert runner.run(stage, tmp_path, fault=fault) == 1, log_of(tmp_path)
    told = " ".join(log_of(tmp_path).split())
    (disk / "others").unlink()
    assert "DiskFull: [Errno 28] " in told, told
    assert str(disk.resolve()) in told
    assert re.search(r"[\d,]+ bytes free", told)
    assert "the same command goes on from" in told
    assert newest_of(tmp_path, stage).is_dir()
    assert runner.run(stage, tmp_path) == 0, log_of(tmp_path)
    is_equal = expected.is_equalled(stage, tmp_path)
    injected.add(lost=not is_equal)
    assert is_equal


@pytest.mark.fault(
    "Training", "memory runs out", "an allocation that fails, in mid-run, six stages"
)
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("stage", list(KINDS))
def test_a_want_of_memory_is_named_and_gone_on_from(
    runner: Runner, whole: Whole, tmp_path: Path, injected: Injected, stage: str, after: int
) -> None:
    expected = whole(stage)
    assert runner.run(stage, tmp_path, fault={"what": "memory", "after": after}) == 1
    told = " ".join(log_of(tmp_path).split())
    assert f"OutOfMemory: {stage}: out of memory (" in told, told
    assert "bytes free" in told
    assert f"else lower {stage}." in told
    newest = newest_of(tmp_path, stage)
    assert f"The last good checkpoint is {newest.name} in {newest.parent}" in told
    assert runner.run(stage, tmp_path) == 0, log_of(tmp_path)
    is_equal = expected.is_equalled(stage, tmp_path)
    injected.add(lost=not is_equal)
    assert is_equal
