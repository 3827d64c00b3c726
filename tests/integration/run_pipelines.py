"""ZenML's `pipeline run`, once a line of standard input, in a process that imports everything once.

A line is a JSON list: pipeline and file of its configuration. The answer, a line of JSON, is what
the run left, or how it failed. What ZenML and the steps print goes to standard error.
"""

import json
import os
import sys
import traceback
from typing import Any

import mlflow
from zenml.cli.cli import cli
from zenml.client import Client

TRACKING = os.environ["MLFLOW_TRACKING_URI"]
SMALL = ("evaluation", "version", "promotion")
"""Outputs that are models of pydantic; the others are folders or pages."""


def run(pipeline: str, file: str) -> dict[str, Any]:
    """The status of each step, where its outputs lie, and what its small results say."""
    mlflow.set_tracking_uri(TRACKING)  # as a command begins: ZenML's tracker empties it
    cli(["pipeline", "run", f"pipelines.{pipeline}.{pipeline}", "-c", file], standalone_mode=False)
    found: dict[str, Any] = {"steps": {}, "folders": {}, "results": {}}
    for name, step in Client().list_pipeline_runs(sort_by="desc:created", size=1)[0].steps.items():
        found["steps"][name] = step.status.value
        for output, artifacts in step.outputs.items():
            if output in SMALL:
                found["results"][output] = artifacts[0].load().model_dump(mode="json")
            else:
                found["folders"][output] = artifacts[0].uri
    return found


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            answer = run(*json.loads(line))
        except BaseException:
            answer = {"failed": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
