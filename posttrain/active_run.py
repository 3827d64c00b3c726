"""The MLflow run that this process logs into: found, joined, told, ended.

Every step that is tracked needs it, also those whose image has no torch.
"""

import logging
import time
from typing import Any, Literal

import mlflow

from posttrain import spool
from posttrain.recipe.section import Section
from posttrain.silence import SILENT, impatient
from posttrain.spool_file import Line

log = logging.getLogger(__name__)


class ActiveRun(Section):
    """An MLflow run that another process may log into."""

    tracking_uri: str
    run_id: str

    @classmethod
    def find(cls) -> "ActiveRun | None":
        """This process's run, or the one that it joined."""
        run = mlflow.active_run()
        if run is None:
            return _JOINED[-1] if _JOINED else None
        return cls(tracking_uri=mlflow.get_tracking_uri(), run_id=run.info.run_id)

    def join(self) -> None:
        """Log into it from here on; its beginning and its end stay with its owner."""
        _JOINED.append(self)

    def line(self, **what: Any) -> Line:
        """What it is told now."""
        now = time.time_ns() // 10**6
        return Line(**self.model_dump(), milliseconds=now, **what)


_JOINED: list[ActiveRun] = []


def tell(**what: Any) -> None:
    """Leave something for the active MLflow run with the spool."""
    run = ActiveRun.find()
    if run is not None:
        spool.put(run.line(**what))


def end_runs(status: Literal["FINISHED", "FAILED"]) -> None:
    """End the active MLflow run and those that it lies in, now or when MLflow answers.

    What a step made is not stored yet when it ends: a server that is silent must not cost it.
    """
    spool.flush()
    while (run := mlflow.active_run()) is not None:
        told = ActiveRun(tracking_uri=mlflow.get_tracking_uri(), run_id=run.info.run_id)
        try:
            with impatient():
                mlflow.end_run(status)  # it is active no more, answer or not
        except SILENT as error:
            log.warning("MLflow does not answer, a run's end is told later: %s", error)
            spool.put(told.line(ended=status))
