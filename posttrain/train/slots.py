"""Two runs of one recipe at once keep their checkpoints apart.

Their stages have equal sections and inputs, and so one name. The first takes that name, the second
`<name>-2`, and so on; a name is free again when its process ends, however it ends. A run that goes
on takes a free name that has checkpoints before one that has none, so that those of killed runs are
taken up one by one. The lock holds on one machine, and on others that share a file system with
locks; not for a URL's.
"""

from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from filelock import FileLock, Timeout

_HELD: dict[Path, tuple[Path, FileLock]] = {}
"""By name. Until this process ends: a stage that is tried again in it goes on where it was."""


def own(folder: Path) -> Path:
    """`folder` or a `folder-<number>` that no other process has."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder in _HELD:
        return _HELD[folder][0]
    for slot in chain(_left(folder), _numbered(folder)):
        lock = FileLock(str(slot.with_name(f".{slot.name}.lock")))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _HELD[folder] = slot, lock
        return slot
    raise AssertionError("numbers end nowhere")


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in count(2))


def _left(folder: Path) -> list[Path]:
    """Names with checkpoints, of runs that go on or were killed."""
    names = [folder, *folder.parent.glob(f"{folder.name}-*")]
    found = [slot for slot in names if any(slot.glob("checkpoint-*"))]
    return sorted(found, key=lambda slot: (len(slot.name), slot.name))
