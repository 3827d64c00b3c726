"""What MLflow is told, kept on this machine's disk until it has arrived.

`put` appends a line to a file of this process's own and returns: whoever trains does not wait for a
server. A thread sends the lines in their order. What it could not send lies in `<work>/spool`, and
the next step, the next run or `posttrain doctor` sends it.

Exactly once: a line names its run, step and time, and MLflow's store has one row for one value of a
metric at one step and time; a line that is sent again, because its sender was killed before it
noted that it had arrived, changes nothing. The same holds for parameters, pages and a run's end.
A file is sent by whoever holds its lock: its owner, and when that process is gone another.

Not promised: lines are handed to the operating system and not forced to the disk, so that a machine
that loses its power may lose the last of them; the stage's `history.jsonl` holds its curve too.
"""

import atexit
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from filelock import Timeout

from posttrain.runtime import Runtime
from posttrain.silence import impatient
from posttrain.spool_file import Line, SpoolFile

GATHER_SECONDS = 0.5
"""Between the first line and the message that takes it and those that came meanwhile."""

IDLE_SECONDS = 5.0
"""Without a line, after which the thread ends; the next line starts one."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two attempts; twice as long each time."""

STALLED_SECONDS = 10.0
"""How long the end of a step waits for a line to arrive: what is left arrives later."""

log = logging.getLogger(__name__)


class Spool:
    """This process's file, and the thread that sends it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pid = os.getpid()
        self.file = SpoolFile(folder / f"{self.pid}-{uuid.uuid4().hex[:12]}.jsonl")
        self.file.lock.acquire()
        descriptor = os.open(self.file.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.stream = os.fdopen(descriptor, "ab", buffering=0)
        self.written = self.arrived = 0  # bytes
        self.changed = threading.Condition()
        self.hurry = threading.Event()
        self.thread: threading.Thread | None = None

    def put(self, line: Line) -> None:
        """Keep a line, and see that it is sent."""
        text = line.model_dump_json().encode() + b"\n"
        with self.changed:
            rest = memoryview(text)
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self.stream.write(rest) :]
            self.written += len(text)
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name="spool", daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def flush(self, stalled_seconds: float) -> bool:
        """Wait for what is left to arrive, while it does; whether all of it has."""
        with self.changed:
            self.hurry.set()
            while self._left:
                before = self.arrived
                # an attempt that failed is told too, and the next one may be better
                if not self.changed.wait_for(partial(self._more_than, before), stalled_seconds):
                    break
            self.hurry.clear()
            return self._left == 0

    def close(self) -> None:
        """At this process's end: leave a file behind only where there is something in it."""
        if os.getpid() == self.pid and self.flush(STALLED_SECONDS):
            self.file.remove()

    def _more_than(self, arrived: int) -> bool:
        return self.arrived > arrived

    @property
    def _left(self) -> int:
        return self.written - self.arrived

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self.changed:
                if not self._left and not self.changed.wait_for(lambda: self._left, IDLE_SECONDS):
                    self.thread = None
                    return
            self.hurry.wait(GATHER_SECONDS)
            try:
                self.file.send()
                pause = FIRST_PAUSE
            except Exception as error:  # the lines lie on the disk: another time
                log.debug("MLflow took nothing: %s", error)
                if self.hurry.wait(pause):
                    time.sleep(FIRST_PAUSE)
                pause = min(2 * pause, LONGEST_PAUSE)
            with self.changed:
                self.arrived = self.file.sent
                self.changed.notify_all()


_SPOOLS: dict[tuple[int, Path], Spool] = {}
"""By process, which a fork makes another, and by folder."""


def folder() -> Path:
    """Where lines wait."""
    return Runtime.from_environment().work.resolve() / "spool"


def put(line: Line) -> None:
    """Keep a line, and see that it is sent."""
    key = (os.getpid(), folder())
    if key not in _SPOOLS:
        _SPOOLS[key] = Spool(key[1])
        atexit.register(_SPOOLS[key].close)
    _SPOOLS[key].put(line)


def flush(stalled_seconds: float = STALLED_SECONDS) -> bool:
    """Wait for this process's lines to arrive, while they do; whether all of them have."""
    spool = _SPOOLS.get((os.getpid(), folder()))
    return spool is None or spool.flush(stalled_seconds)


def left(place: Path | None = None) -> Iterator[SpoolFile]:
    """Files of processes that are gone; each is locked while the caller looks at it."""
    place = place or folder()
    for path in sorted(place.glob("*.jsonl")):
        file = SpoolFile(path)
        with suppress(Timeout), file.lock.acquire(blocking=False):
            if path.exists():  # nobody sent it between the look and the lock
                yield file


def send_left(place: Path | None = None) -> int:
    """Send what processes that are gone have left; how many lines stay, for want of an answer."""
    stay, silent = 0, set[str]()
    for file in left(place):
        if not _addresses(file.unsent()) & silent:
            try:
                with impatient():
                    while file.send():
                        pass
            except Exception as error:  # no run ends for what another could not send
                log.warning("%s waits: MLflow took nothing: %s", file.path.name, error)
                silent |= _addresses(file.unsent(1))
        if num := len(file.unsent()):
            stay += num
        else:
            file.remove()
    return stay


def _addresses(lines: list[tuple[Line | bytes, int]]) -> set[str]:
    return {line.tracking_uri for line, _ in lines if isinstance(line, Line)}
