"""Where the registry is, for steps that no experiment tracker has told."""

import os

from zenml.client import Client


def find_registry() -> None:
    """Point MLflow to the stack's tracker where the environment names none."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return
    tracker = Client().active_stack.experiment_tracker
    if tracker is not None and tracker.flavor == "mlflow":
        tracker.configure_mlflow()  # type: ignore[attr-defined]  # that flavor's own
