"""A pipeline of the right name that trains until it is killed: run in a process of its own."""

import sys
import time
from pathlib import Path

import mlflow
from zenml import get_step_context, pipeline, step

from posttrain.tracking import log_figures
from steps._started import started_by

FOREVER = 1e6


@step(enable_cache=False)
def sft(notes: str) -> None:
    """Train for ever, in a run of MLflow's as ZenML's tracker opens it; a file says that it has."""
    run, tags = get_step_context().pipeline_run.name, {"zenml": "tracked"}
    with (
        mlflow.start_run(run_name=run, tags=tags),
        mlflow.start_run(run_name="sft", tags=tags, nested=True),
    ):
        mlflow.log_metric("train/loss", 1.0)
        log_figures("result", {"steps": 3.0})
        Path(notes).write_text(run, encoding="utf-8")
        time.sleep(FOREVER)


@pipeline(name="fine_tuning", extra=started_by())
def waiting(notes: str) -> None:
    """A run to be killed, or to be left alone."""
    sft(notes)


if __name__ == "__main__":
    waiting(sys.argv[1])
