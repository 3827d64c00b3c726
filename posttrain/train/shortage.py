"""Room for a stage, on disk and in memory: looked at before it starts, named where it ends.

Before the first step, what is known to the byte: its checkpoints, and the gradients and moments
that the first step makes. What activations take is an estimate, which `base_model` looked at.
"""

import errno
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from posttrain import processes
from posttrain.host import free_gpu_memory, free_memory
from posttrain.runtime import Runtime

MOMENTS = 2
"""Of AdamW, a weight, in float32."""

FLOAT = 4

SMALLER_BATCH = "{stage}.batch_size, or set {stage}.gradient_checkpointing,"
SMALLER = {"ppo": "ppo.forward_batch_size or ppo.generation_batch_size"}
"""What takes less memory, by stage."""

BESIDE = 2**20
"""Bytes of a checkpoint that are neither weights nor moments: configs, generators' states."""

NO_SPACE = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up"}
NO_SPACE[errno.EFBIG] = "a file may not grow further (ulimit -f, or the file system's bound)"

# what libraries written in C++ and Rust say where Python has a number
SAID_OF_SPACE = ("No space left on device", "File too large", "Disk quota exceeded")
SAID_OF_MEMORY = ("can't allocate memory", "Cannot allocate memory", "not enough memory")
SAID_OF_A_FAILED_WRITE = ("PytorchStreamWriter", "unexpected pos")
"""Torch's, which leaves out why: a full disk as a rule."""


class DiskFull(OSError):
    """A folder has no room for what a stage writes."""


class OutOfMemory(MemoryError):
    """A stage needs more memory than there is."""


def checkpoint_bytes(weights: Iterable[nn.Parameter]) -> int:
    """A checkpoint's size: weights and moments."""
    return BESIDE + sum(one.nbytes + MOMENTS * FLOAT * one.numel() for one in weights)


def check_memory(stage: str, weights: Sequence[nn.Parameter], has_moments: bool) -> None:
    """There is memory for gradients, and for moments where no checkpoint brought them.

    Raises:
        OutOfMemory: says how much is needed, how much is free, and what to do.
    """
    needed = sum(one.nbytes for one in weights)
    if not has_moments:
        needed += sum(MOMENTS * FLOAT * one.numel() for one in weights)
    on_gpu = any(one.is_cuda for one in weights)
    if not on_gpu:
        needed *= processes.count()  # they share the machine's
    if needed > (free := free_gpu_memory() if on_gpu else free_memory()):
        where = "the GPU" if on_gpu else "this machine"
        raise OutOfMemory(
            f"{stage}: {where} has {free:,} bytes of memory free, and gradients and optimizer need "
            f"{needed:,} before any activation; train fewer weights (method: lora), or run the "
            "same command where there is more"
        )


@contextmanager
def explained(stage: str) -> Iterator[None]:
    """Say of a disk that fills up or memory that runs out what to do.

    Raises:
        DiskFull: names the folders, and what is free in each.
        OutOfMemory: says what was asked for, and what is free.
    """
    try:
        yield
    except (DiskFull, OutOfMemory):
        raise
    except Exception as error:
        found = explanation(stage, error)
        if found is None:
            raise
        for note in getattr(error, "__notes__", []):
            found.add_note(note)
        raise found from error


def explanation(stage: str, error: BaseException) -> DiskFull | OutOfMemory | None:
    """The same error in words that say what to do; None where room is not what lacked."""
    again = "the same command goes on from its last checkpoint"
    if (why := out_of_space(error)) is not None:
        free = "; ".join(f"{path}: {left:,} bytes free" for path, left in free_of_each().items())
        return DiskFull(
            errno.ENOSPC,
            f"{stage}: {why} ({free}); free some, or set POSTTRAIN_WORK, POSTTRAIN_CHECKPOINTS or "
            f"TMPDIR to a larger disk; {again}",
        )
    if (why := next(filter(None, map(_of_memory, _causes(error))), None)) is not None:
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        free = f"{free_gpu_memory() if on_gpu else free_memory():,} bytes free"
        return OutOfMemory(
            f"{stage}: out of memory ({free}): {why}; where there is more, {again}; else lower "
            f"{SMALLER.get(stage, SMALLER_BATCH).format(stage=stage)} in the recipe"
        )
    return None


def out_of_space(error: BaseException) -> str | None:
    """What a file system said that had no room; None where that is not what went wrong."""
    return next(filter(None, map(_of_space, _causes(error))), None)


def free_of_each() -> dict[Path, int]:
    """Free bytes of each folder that a stage writes to."""
    runtime = Runtime.from_environment()
    folders = [runtime.work, runtime.cache]
    if "://" not in runtime.checkpoints:
        folders.append(Path(runtime.checkpoints))
    return {
        folder.resolve(): shutil.disk_usage(folder).free for folder in folders if folder.exists()
    }


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_space(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        named = f", {error.filename}" if error.filename else ""
        return f"{NO_SPACE[error.errno]}{named}"
    if any(said in str(error) for said in SAID_OF_SPACE):
        return str(error)
    if isinstance(error, RuntimeError) and any(s in str(error) for s in SAID_OF_A_FAILED_WRITE):
        return f"a file could not be written whole: {error}"
    return None


def _of_memory(error: BaseException) -> str | None:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return str(error) or "Python could not have a further object"
    is_told = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return str(error) if is_told or any(said in str(error) for said in SAID_OF_MEMORY) else None
