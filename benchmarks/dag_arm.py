"""The whole DAG in one process, small: what ZenML and the hand-over of artifacts cost.

    python -m benchmarks.dag_arm first|again RUN.yaml

`first` runs every step. `again` runs the same once more, from the cache, in a process that has
imported what steps need. Prints JSON: seconds of the run, and of the steps' own bodies within it.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from zenml.client import Client
from zenml.steps.base_step import BaseStep
from zenml.utils.source_utils import set_custom_source_root

from pipelines.post_training import post_training

NEEDED = (
    "posttrain.registry.register",
    "posttrain.registry.promote",
    "posttrain.registry.champion",
    "posttrain.models.source",
    "posttrain.data.validate",
    "mlflow.pytorch",
)
"""What the steps that always run import, and what ZenML's tracker does."""


class Bodies:
    """Seconds within step functions: all else is orchestration, reading and writing artifacts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        call = BaseStep.call_entrypoint

        def timed(step: Any, *args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return call(step, *args, **kwargs)
            finally:
                self.seconds[step.name] = time.perf_counter() - begun

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
    begun = time.perf_counter()
    post_training.with_options(config_path=file)()
    ended = time.perf_counter()
    run = Client().list_pipeline_runs(sort_by="desc:created", size=1, hydrate=True).items[0]
    print(
        json.dumps(
            {
                "seconds": ended - begun,
                "bodies": bodies.seconds,
                "statuses": {name: step.status.value for name, step in run.steps.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
