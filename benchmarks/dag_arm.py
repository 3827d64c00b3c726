"""The whole DAG in one process, small: what ZenML and the hand-over of artifacts cost.

    python -m benchmarks.dag_arm first|again RUN.yaml

`first` runs every step. `again` runs the same once more, from the cache, in a process that has
imported what steps need. Prints JSON: seconds of the run, and of the steps' own bodies within it,
by the clock and of the CPU.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from zenml.client import Client
from zenml.steps.base_step import BaseStep
from zenml.utils.source_utils import set_custom_source_root

from benchmarks.harness import Watch
from pipelines.post_training import post_training

NEEDED = (
    "posttrain.registry.register",
    "posttrain.registry.promote",
    "posttrain.registry.champion",
    "posttrain.models.source",
    "posttrain.data.validate",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)
"""What the steps that always run import, and what ZenML's tracker does."""


class Bodies:
    """Time within step functions: all else is orchestration, reading and writing artifacts."""

    def __init__(self) -> None:
        self.watch = Watch()
        call = BaseStep.call_entrypoint

        def timed(step: Any, *args: Any, **kwargs: Any) -> Any:
            with self.watch.timing():
                return call(step, *args, **kwargs)

        BaseStep.call_entrypoint = timed


def main() -> None:
    """Run the pipeline as the file says."""
    mode, file = sys.argv[1:]
    set_custom_source_root(str(Path.cwd()))  # as `zenml pipeline run` has it
    bodies = Bodies()
    if mode == "again":
        for name in NEEDED:
            importlib.import_module(name)
    Client().active_stack  # noqa: B018  opens the store, once a process
    whole = Watch()
    with whole.timing():
        post_training.with_options(config_path=file)()
    run = Client().list_pipeline_runs(sort_by="desc:created", size=1, hydrate=True).items[0]
    print(
        json.dumps(
            {
                "run": whole.turn.model_dump(),
                "bodies": bodies.watch.turn.model_dump(),
                "statuses": {name: step.status.value for name, step in run.steps.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
