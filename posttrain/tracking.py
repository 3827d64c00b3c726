"""One way to record a curve: a line in the stage's `history.jsonl`, and the active MLflow run.

The run is ZenML's: its experiment tracker opens one a step. Without one (a notebook, a test) only
the file is written.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import mlflow

from posttrain import processes
from posttrain.artifacts import HISTORY
from posttrain.recipe.section import Section


class Curves:
    """Curves of one stage; names carry the stage, `ppo/kl`. Of several processes one records."""

    def __init__(self, folder: Path, stage: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / HISTORY
        self.stage = stage

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Record `figures` at `step`. JSON has no NaN: such a figure is written as null."""
        if not processes.is_main():
            return
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **finite}) + "\n")
        if mlflow.active_run() is not None:
            mlflow.log_metrics(
                {f"{self.stage}/{name}": value for name, value in figures.items()}, step=step
            )


class ActiveRun(Section):
    """An MLflow run that another process may log into."""

    tracking_uri: str
    run_id: str

    @classmethod
    def find(cls) -> "ActiveRun | None":
        """This process's run."""
        run = mlflow.active_run()
        if run is None:
            return None
        return cls(tracking_uri=mlflow.get_tracking_uri(), run_id=run.info.run_id)

    def join(self) -> None:
        """Log into it from here on."""
        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.start_run(run_id=self.run_id)

    def reopen(self) -> None:
        """A process that joined it marks it as finished when it ends: its owner decides that."""
        mlflow.MlflowClient(self.tracking_uri).update_run(self.run_id, status="RUNNING")


def log_parameters(stage: str, parameters: Mapping[str, object]) -> None:
    """Record a stage's settings in the active MLflow run, once.

    MLflow's parameters are immutable: a retried step leaves what its first attempt wrote.
    """
    run = mlflow.active_run()
    if run is None:
        return
    known = mlflow.get_run(run.info.run_id).data.params
    named = {f"{stage}.{name}": str(value)[:500] for name, value in parameters.items()}
    mlflow.log_params({name: value for name, value in named.items() if name not in known})


def log_figures(stage: str, figures: Mapping[str, float]) -> None:
    """Record final figures in the active MLflow run, as `stage/name`."""
    if mlflow.active_run() is not None:
        mlflow.log_metrics({f"{stage}/{name}": value for name, value in figures.items()})


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """The curve's points in a trained folder; empty where nothing was trained."""
    file = folder / HISTORY
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
