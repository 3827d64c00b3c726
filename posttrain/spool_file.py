"""Lines for MLflow in a file, and how many of them have arrived; `posttrain.spool` writes them."""

import logging
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from pydantic import ConfigDict, Field

from posttrain.recipe.section import Section

BATCH = 500
"""Lines and values in a message; MLflow takes 1,000 values."""

REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
"""What MLflow says of a line that it will never take. BAD_REQUEST is not: so it calls most errors
of its database, which pass."""

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
        with suppress(FileNotFoundError, ValueError):  # empty where a machine lost its power
            return int(self.mark.read_text(encoding="ascii"))
        return 0

    def unsent(self, most: int | None = None) -> list[tuple[Line | bytes, int]]:
        """Lines that have not arrived, each with the byte at which it ends.

        The last line of a process that was killed as it wrote may be no whole one; it is no line.
        One that can't be read, after a machine lost its power, comes as it lies there.
        """
        found: list[tuple[Line | bytes, int]] = []
        with suppress(FileNotFoundError), self.path.open("rb") as stream:
            stream.seek(self.sent)
            while most is None or len(found) < most:
                text = stream.readline()
                if not text.endswith(b"\n"):
                    break
                found.append((_parsed(text), stream.tell()))
        return found

    def send(self) -> int:
        """Send a few of the lines, and note that they arrived; how many there were.

        Raises:
            Exception: MLflow did not take them: no answer, or its database or store fails.
        """
        lines = self.unsent(BATCH)
        for _, group in groupby(lines, lambda one: _kind(one[0])):
            batch = list(group)
            if (whole := [line for line, _ in batch if isinstance(line, Line)]) != []:
                self._send(whole)
            for text in (text for text, _ in batch if isinstance(text, bytes)):
                self._refuse(text, "it is no line")
            self._note(batch[-1][1])
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
            self._refuse(lines[0].model_dump_json().encode() + b"\n", str(error))

    def _refuse(self, text: bytes, why: str) -> None:
        log.error("a line for MLflow is kept in %s: %s", self.refused, why)
        with self.refused.open("ab") as stream:
            stream.write(text)

    def _note(self, end: int) -> None:
        part = self.mark.with_suffix(".part")
        part.write_text(str(end), encoding="ascii")
        part.replace(self.mark)


def _parsed(text: bytes) -> Line | bytes:
    try:
        return Line.model_validate_json(text)
    except ValueError:
        return text


def _kind(line: Line | bytes) -> tuple[str, ...]:
    """What goes in one message: metrics of one run; of anything else one line."""
    if isinstance(line, bytes):
        return ()
    return (line.tracking_uri, line.run_id, "" if line.is_batched else line.model_dump_json())


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
