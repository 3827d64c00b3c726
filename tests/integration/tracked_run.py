"""A run whose first step ends as MLflow is killed, and whose second begins then.

Run in a process of its own: the tracker's address, the server's process group, a file that says
that the first step has ended.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

from zenml import pipeline, step
from zenml.client import Client
from zenml.enums import StackComponentType

from posttrain.decisions import RegisteredVersion
from posttrain.tracking import log_figures
from steps._started import started_by

NAME = "tracked"
STEPS = 40


@step(enable_cache=False, experiment_tracker=NAME)
def sft(server: int, ended: str) -> Annotated[RegisteredVersion, "version"]:
    """Log a curve, and lose the server before the step's end."""
    for number in range(STEPS):
        log_figures("result", {f"loss_{number}": float(number)})
    os.killpg(server, signal.SIGKILL)
    Path(ended).touch()
    return RegisteredVersion(name="ferries", version=3, content_hash="ab", is_new=True)


@step(enable_cache=False, experiment_tracker=NAME)
def evaluate(version: RegisteredVersion) -> None:
    """Begin while the server is away."""
    log_figures("result", {"version": float(version.version)})


@pipeline(name="fine_tuning", extra=started_by())
def tracked(server: int, ended: str) -> None:
    """Two steps with MLflow's tracker."""
    evaluate(sft(server, ended))


def stack(uri: str) -> None:
    """ZenML's local stack with a tracker."""
    client = Client()
    tracker = StackComponentType.EXPERIMENT_TRACKER
    options = {"tracking_uri": uri, "tracking_username": "a", "tracking_password": "b"}
    client.create_stack_component(NAME, "mlflow", tracker, options)
    components = {
        StackComponentType.ORCHESTRATOR: "default",
        StackComponentType.ARTIFACT_STORE: "default",
        tracker: NAME,
    }
    client.create_stack(NAME, components)
    client.activate_stack(NAME)


if __name__ == "__main__":
    stack(sys.argv[1])
    tracked.with_options(settings={"experiment_tracker.mlflow": {"nested": True}})(
        int(sys.argv[2]), sys.argv[3]
    )
