"""ZenML's MLflow tracker, made to live with a server that does not answer.

ZenML asks MLflow at a step's beginning and, before it stores what the step made, at its end: a
server that restarts just then would cost the step's work. Here the beginning waits, and the end
leaves word with the spool. The flavor stays `mlflow`, in stacks and in a run's YAML.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

from zenml.integrations.mlflow.flavors import MLFlowExperimentTrackerFlavor
from zenml.stack import stack

if TYPE_CHECKING:
    from zenml.config.step_run_info import StepRunInfo


@cache
def _implementation() -> Any:
    """The class of the tracker; with it MLflow is imported, which a compiled pipeline needs not."""
    import mlflow
    from zenml.integrations.mlflow.experiment_trackers import MLFlowExperimentTracker

    from posttrain import spool
    from posttrain.active_run import end_runs
    from posttrain.silence import outlast
    from steps._started import command_of

    class PatientTracker(MLFlowExperimentTracker):
        """Waits where a step begins; loses nothing where it ends."""

        def prepare_step_run(self, info: "StepRunInfo") -> None:
            """Open the step's run in MLflow, when it answers."""
            self.configure_mlflow()
            go_on = command_of(info.pipeline)
            outlast(go_on, mlflow.search_experiments, max_results=1)
            spool.flush()  # the end of a run that goes on now must not come after its beginning
            spool.send_left()  # of the steps before
            super().prepare_step_run(info)

        def cleanup_step_run(self, info: "StepRunInfo", step_failed: bool) -> None:
            """End the step's run in MLflow, now or later."""
            end_runs("FAILED" if step_failed else "FINISHED")
            super().cleanup_step_run(info, step_failed)

        def disable_autologging(self) -> None:
            """Nothing: no step turns it on.

            ZenML would import eight frameworks to turn it off, and warn of one that MLflow dropped.
            """

    return PatientTracker


# ZenML loads the flavor's class and asks it for the tracker's; mypy sees a method being replaced
MLFlowExperimentTrackerFlavor.implementation_class = property(lambda _: _implementation())  # type: ignore[assignment,method-assign]
# `zenml pipeline run` has loaded the active stack, and kept it, before it imports the pipeline
for loaded in stack._STACK_CACHE.values():
    if loaded.experiment_tracker is not None and loaded.experiment_tracker.flavor == "mlflow":
        loaded.experiment_tracker.__class__ = _implementation()
