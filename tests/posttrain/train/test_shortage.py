"""Room on disk and in memory: asked for to the byte, and named where it ends."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from posttrain.train.checkpoints import Checkpoints
from posttrain.train.shortage import (
    DiskFull,
    OutOfMemory,
    check_memory,
    checkpoint_bytes,
    explained,
    free_memory,
)
from tests.faults import Injected

FEW = [nn.Parameter(torch.zeros(8, device="meta"))]
MANY = [nn.Parameter(torch.zeros(2**42, device="meta"))]
"""Of a model that no machine holds: its sizes alone."""

MEBIBYTE = 2**20


@contextmanager
def limited(kind: int, number: int) -> Iterator[None]:
    """A limit on this process, for a while."""
    before, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (number, most))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, most))


@pytest.mark.fault("Training", "no room for a stage", "a model larger than disk or memory")
def test_checkpoints_without_room_are_refused_before_the_first_step(
    tmp_path: Path, injected: Injected
) -> None:
    Checkpoints(tmp_path).check_room("sft", FEW, 100)
    with pytest.raises(DiskFull, match="POSTTRAIN_CHECKPOINTS") as caught:
        Checkpoints(tmp_path).check_room("sft", MANY, 100)
    assert str(tmp_path) in str(caught.value)
    assert f"need {3 * checkpoint_bytes(MANY):,} more" in str(caught.value)
    injected.add()


def test_a_stage_that_saves_once_needs_room_once(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=f"need {checkpoint_bytes(MANY):,} more"):
        Checkpoints(tmp_path).check_room("sft", MANY, 1)


@pytest.mark.fault("Training", "no room for a stage", "a model larger than disk or memory")
def test_gradients_and_moments_without_room_are_refused(injected: Injected) -> None:
    check_memory("sft", FEW, has_moments=False)
    with pytest.raises(OutOfMemory, match=f"need {12 * 2**42:,} before any activation"):
        check_memory("sft", MANY, has_moments=False)
    with pytest.raises(OutOfMemory, match=f"need {4 * 2**42:,} before"):
        check_memory("sft", MANY, has_moments=True)
    injected.add(2)


def test_a_limit_of_the_process_bounds_what_is_free() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with limited(resource.RLIMIT_AS, pages * resource.getpagesize() + 64 * MEBIBYTE):
        assert free_memory() <= 64 * MEBIBYTE


def by_python(file: Path) -> None:
    file.write_bytes(bytes(MEBIBYTE))


def by_torch(file: Path) -> None:
    torch.save(torch.zeros(MEBIBYTE), file)


def by_safetensors(file: Path) -> None:
    save_file({"one": torch.zeros(MEBIBYTE)}, file)


@pytest.mark.fault("Training", "the disk fills up", "a file that may not grow (RLIMIT_FSIZE)")
@pytest.mark.parametrize("write", [by_python, by_torch, by_safetensors])
def test_a_write_without_room_says_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    injected: Injected,
    write: Callable[[Path], None],
) -> None:
    monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", str(tmp_path))
    limit = limited(resource.RLIMIT_FSIZE, MEBIBYTE // 2)
    with pytest.raises(DiskFull) as caught, explained("sft"), limit:
        write(tmp_path / "file")
    assert caught.value.errno == errno.ENOSPC
    assert f"{tmp_path}: " in str(caught.value)
    assert "bytes free); free some, or set POSTTRAIN_WORK" in str(caught.value)
    injected.add()


@pytest.mark.fault("Training", "the disk fills up", "a file that may not grow (RLIMIT_FSIZE)")
@pytest.mark.parametrize("write", [by_python, by_torch, by_safetensors])
def test_a_checkpoint_without_room_leaves_the_one_before(
    tmp_path: Path, injected: Injected, write: Callable[[Path], None]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    (checkpoints.stage(1) / "file").write_bytes(b"1")
    first = checkpoints.publish(tmp_path / "staging" / "checkpoint-1")
    staged = checkpoints.stage(2)
    limit = limited(resource.RLIMIT_FSIZE, MEBIBYTE // 2)
    refused = pytest.raises(DiskFull, match=r"checkpoint-2: .*needs about 1,048,672")
    with refused, checkpoints.writing(staged, checkpoint_bytes(FEW)), limit:
        write(staged / "file")
    assert not staged.exists()
    injected.add(lost=checkpoints.newest() != first)
    assert checkpoints.newest() == first


def of_python() -> object:
    return bytearray(2**60)


def of_torch() -> object:
    return torch.empty(2**46, dtype=torch.uint8)


def of_numpy() -> object:
    return np.empty(2**46, dtype=np.uint8)


@pytest.mark.fault("Training", "memory runs out", "an allocation that fails")
@pytest.mark.parametrize("allocate", [of_python, of_torch, of_numpy])
def test_a_failed_allocation_says_what_to_do(
    injected: Injected, allocate: Callable[[], object]
) -> None:
    refused = pytest.raises(OutOfMemory, match=r"sft: out of memory .* else lower sft\.batch_size")
    with refused, explained("sft"):
        allocate()
    injected.add()


def test_another_error_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match=r"^of another kind$"), explained("sft"):
        raise RuntimeError("of another kind")


def test_what_was_noted_stays_with_the_error() -> None:
    found = MemoryError()
    found.add_note("The last good checkpoint is checkpoint-5 in x.")
    with pytest.raises(OutOfMemory) as caught, explained("ppo"):
        raise found
    assert caught.value.__notes__ == ["The last good checkpoint is checkpoint-5 in x."]
    assert "ppo.forward_batch_size" in str(caught.value)
