"""Who runs DataTrove's tasks: this process, several beside it, or a Ray cluster.

`POSTTRAIN_CORPUS_EXECUTOR` and `POSTTRAIN_CORPUS_WORKERS` say it. With Ray, folders must be on a
disk that all machines share, and `RAY_ADDRESS` names the cluster; without it one is started here.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from loguru import logger

from posttrain.runtime import Runtime


def run_tasks(pipeline: list[Any], num_tasks: int, logs: Path) -> None:
    """Run a pipeline of DataTrove's to its end.

    Args:
        pipeline: its steps; tasks may run in other processes, so what they need must pickle.
        num_tasks: parts of the work.
        logs: an empty folder, where finished tasks leave a mark.

    Raises:
        ValueError: Ray is asked for and not installed.
        RuntimeError: tasks did not finish.
    """
    runtime = Runtime.from_environment()
    workers = min(runtime.corpus_workers, num_tasks)
    with _quiet():
        if runtime.corpus_executor == "ray":
            executor = _on_ray(pipeline, num_tasks, workers, logs)
        else:
            executor = LocalPipelineExecutor(
                pipeline, num_tasks, workers=workers, logging_dir=str(logs)
            )
        executor.run()
        # Ray's executor logs a failed task and goes on
        unfinished = executor.get_incomplete_ranks(skip_completed=True)
    if unfinished:
        raise RuntimeError(
            f"{len(unfinished)} of {num_tasks} DataTrove tasks did not finish (the first: "
            f"{unfinished[0]}): {_said(logs, unfinished[0])}"
        )


def _said(logs: Path, rank: int) -> str:
    """The end of a task's log: the folder goes with its caller's work."""
    file = logs / "logs" / f"task_{rank:05d}.log"
    return file.read_text("utf-8")[-1000:].strip() if file.exists() else "it left no log"


def _on_ray(pipeline: list[Any], num_tasks: int, workers: int, logs: Path) -> PipelineExecutor:
    try:
        import ray  # noqa: PLC0415  # optional
        from datatrove.executor.ray import RayPipelineExecutor  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            "POSTTRAIN_CORPUS_EXECUTOR=ray, but Ray is not installed here; pip install "
            "'posttrain[ray]', or set it to local"
        ) from error
    if not ray.is_initialized():
        # one of our own listens on loopback alone
        own = {} if os.environ.get("RAY_ADDRESS") else {"_node_ip_address": "127.0.0.1"}
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False, **own)
    return RayPipelineExecutor(pipeline, num_tasks, workers=workers, logging_dir=str(logs))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # DataTrove logs every task to the terminal and its bar ignores loguru
    logger.disable("datatrove")
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logger.enable("datatrove")
