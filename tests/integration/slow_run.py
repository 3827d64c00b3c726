"""A run on a ZenML server that is away for a while as a step works: in a process of its own.

Arguments: a file that says that the step works, and one that says that the server was away.
"""

import sys
import time
from pathlib import Path
from typing import Annotated

from zenml import pipeline, step

from posttrain.decisions import RegisteredVersion
from steps._started import started_by

PATIENCE_SECONDS = 400


@step
def sft(works: str, away: str) -> Annotated[RegisteredVersion, "version"]:
    """Work until the server is away."""
    Path(works).touch()
    until = time.monotonic() + PATIENCE_SECONDS
    while not Path(away).exists() and time.monotonic() < until:
        time.sleep(0.1)
    return RegisteredVersion(name="ferries", version=3, content_hash="ab", is_new=True)


@step
def evaluate(version: RegisteredVersion) -> None:
    """What comes next."""


@pipeline(name="fine_tuning", extra=started_by())
def slow(works: str, away: str) -> None:
    """Two steps."""
    evaluate(sft(works, away))


if __name__ == "__main__":
    slow(*sys.argv[1:])
