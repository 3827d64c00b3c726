"""Two runs of one recipe at once keep their checkpoints apart.

Their stages have equal sections and inputs, and so one name. The first takes that name, the second
`<name>-2`, and so on; a name is free again when its process ends, however it ends. A run that goes
on takes the first free name, so that the checkpoints of killed runs are taken up one by one. The
lock holds on one machine, and on others that share a file system with locks; not for a URL's.
"""

from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

_HELD: dict[Path, FileLock] = {}
"""Until this process ends: a stage that is tried again in it goes on where it was."""


def own(folder: Path) -> Path:
    """`folder`, or the first `folder-<number>` that no other process has."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        slot = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if slot in _HELD:
            return slot
        lock = FileLock(str(slot.with_name(f".{slot.name}.lock")))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _HELD[slot] = lock
        return slot
    raise AssertionError("numbers end nowhere")
