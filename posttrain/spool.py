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
from itertools import groupby
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from pydantic import ConfigDict, Field

from posttrain.recipe.section import Section
from posttrain.runtime import Runtime
from posttrain.silence import SILENT, impatient

GATHER_SECONDS = 0.5
"""Between the first line and the message that takes it and those that came meanwhile."""

IDLE_SECONDS = 5.0
"""Without a line, after which the thread ends; the next line starts one."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two attempts; twice as long each time."""

STALLED_SECONDS = 10.0
"""How long the end of a step waits for a line to arrive: what is left arrives later."""

BATCH = 500
"""Lines and values in a message; MLflow takes 1,000 values."""

REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST")
"""What MLflow says of a line that it will never take."""

log = logging.getLogger(__name__)


class Line(Section):
    """Something that a run of MLflow's is told."""

    model_config = Section.model_config | ConfigDict(ser_json_inf_nan="constants")

    tracking_uri: str
    run_id: str
    milliseconds: int
    """Since 1970: when it was measured, not when it is sent."""

    step: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    parameters: dict[str, str] = Field(default_factory=dict)
    """Those that the run has already stay as they are: MLflow's are immutable."""

    page: tuple[str, str] | None = None
    """Name and text."""

    ended: str | None = None
    """The run's status from here on."""

    @property
    def is_batched(self) -> bool:
        return not self.parameters and self.page is None and self.ended is None


class SpoolFile:
    """Lines of one process, and how many of their bytes have arrived."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = path.with_suffix(".sent")
        self.refused = path.with_suffix(".refused")
        self.lock = FileLock(str(path.with_suffix(".lock")))

    @property
    def sent(self) -> int:
        """Bytes that have arrived."""
        with suppress(FileNotFoundError):
            return int(self.mark.read_text(encoding="ascii"))
        return 0

    def unsent(self, most: int | None = None) -> list[tuple[Line, int]]:
        """Lines that have not arrived, each with the byte at which it ends.

        The last line of a process that was killed as it wrote may be no whole one; it is no line.
        """
        found: list[tuple[Line, int]] = []
        with suppress(FileNotFoundError), self.path.open("rb") as stream:
            stream.seek(self.sent)
            while most is None or len(found) < most:
                text = stream.readline()
                if not text.endswith(b"\n"):
                    break
                found.append((Line.model_validate_json(text), stream.tell()))
        return found

    def send(self) -> int:
        """Send a few of the lines, and note that they arrived; how many there were.

        Raises:
            Exception: one of `SILENT`: MLflow did not answer.
        """
        lines = self.unsent(BATCH)
        for key, group in groupby(lines, lambda one: (*_target(one[0]), one[0].is_batched)):
            batch = list(group)
            if key[-1]:
                self._send([line for line, _ in batch])
                self._note(batch[-1][1])
            else:
                for line, end in batch:
                    self._send([line])
                    self._note(end)
        return len(lines)

    def remove(self) -> None:
        """All of it has arrived."""
        for file in (self.path, self.mark, Path(self.lock.lock_file)):
            file.unlink(missing_ok=True)

    def _send(self, lines: list[Line]) -> None:
        try:
            _tell(lines)
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            if len(lines) > 1:  # one of them is at fault
                for line in lines:
                    self._send([line])
                return
            log.error("MLflow refuses a line, kept in %s: %s", self.refused, error)
            with self.refused.open("a", encoding="utf-8") as stream:
                stream.write(lines[0].model_dump_json() + "\n")

    def _note(self, end: int) -> None:
        part = self.mark.with_suffix(".part")
        part.write_text(str(end), encoding="ascii")
        part.replace(self.mark)


class Spool:
    """This process's file, and the thread that sends it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pid = os.getpid()
        self.file = SpoolFile(folder / f"{self.pid}-{uuid.uuid4().hex[:12]}.jsonl")
        self.file.lock.acquire()
        descriptor = os.open(self.file.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.stream = os.fdopen(descriptor, "ab", buffering=0)
        self.written = 0
        self.arrived = 0
        self.changed = threading.Condition()
        self.hurry = threading.Event()
        self.thread: threading.Thread | None = None

    def put(self, line: Line) -> None:
        """Keep a line, and see that it is sent."""
        text = line.model_dump_json().encode() + b"\n"
        with self.changed:
            self.stream.write(text)
            self.written += 1
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name="spool", daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def flush(self, stalled_seconds: float) -> bool:
        """Wait for what is left to arrive, while it does; whether all of it has."""
        with self.changed:
            self.hurry.set()
            while before := self._left:
                if not self.changed.wait(stalled_seconds) or self._left == before:
                    break
            self.hurry.clear()
            return self._left == 0

    def close(self) -> None:
        """At this process's end: leave a file behind only where there is something in it."""
        if os.getpid() == self.pid and self.flush(STALLED_SECONDS):
            self.file.remove()

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
                sent = self.file.send()
            except SILENT as error:
                log.debug("MLflow does not answer: %s", error)
                if self.hurry.wait(pause):
                    time.sleep(FIRST_PAUSE)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            with self.changed:
                self.arrived += sent
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
        lines = file.unsent()
        if not {line.tracking_uri for line, _ in lines} & silent:
            try:
                with impatient():
                    while file.send():
                        pass
            except SILENT as error:
                log.warning("%s waits: MLflow does not answer: %s", file.path.name, error)
                silent |= {line.tracking_uri for line, _ in file.unsent(1)}
        if num := len(file.unsent()):
            stay += num
        else:
            file.remove()
    return stay


def _target(line: Line) -> tuple[str, str]:
    return line.tracking_uri, line.run_id


def _tell(lines: list[Line]) -> None:
    """Lines of one run; any number of metrics, or one line of another kind."""
    client, run = MlflowClient(lines[0].tracking_uri), lines[0].run_id
    metrics = [
        Metric(name, value, line.milliseconds, line.step)
        for line in lines
        for name, value in line.metrics.items()
    ]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run, metrics=metrics[start : start + BATCH])
    for line in lines:
        if line.parameters:
            known = client.get_run(run).data.params
            fresh = [Param(*one) for one in line.parameters.items() if one[0] not in known]
            client.log_batch(run, params=fresh)
        if line.page is not None:
            name, text = line.page
            client.log_text(run, text, name)
        if line.ended is not None:
            client.set_terminated(run, line.ended, line.milliseconds)
