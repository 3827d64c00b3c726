"""Which process started a run, and by which command: what goes on with it, and who looks after it.

Kept with the run as its pipeline's `extra`, which is no part of a cache key.
"""

from typing import Any

from zenml import get_step_context
from zenml.config.pipeline_configurations import PipelineConfiguration

from posttrain.started import Started

KEY = "started_by"


def started_by() -> dict[str, Any]:
    """This process, for a pipeline's `extra`."""
    return {KEY: Started.here().model_dump()}


def starter(pipeline: PipelineConfiguration) -> Started | None:
    """The process that started a run; None for one of another pipeline than ours."""
    found = pipeline.extra.get(KEY)
    return Started.model_validate(found) if found else None


def command_of(pipeline: PipelineConfiguration) -> str:
    """What starts the same run again."""
    started = starter(pipeline)
    return started.go_on if started else "start the same run again"


def go_on() -> str:
    """What starts this step's run again."""
    return command_of(get_step_context().pipeline_run.config)
