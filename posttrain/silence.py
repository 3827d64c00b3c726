"""A server that does not answer: what that looks like, and how long to wait for it."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import requests
from mlflow.exceptions import MlflowException

from posttrain.runtime import Runtime

P = ParamSpec("P")
Result = TypeVar("Result")

SILENT = (MlflowException, requests.exceptions.RequestException, OSError)
"""What MLflow's client raises then; the first also where the server said no."""

SAYINGS = re.compile(
    r"failed with (timeout )?exception|error code (429|5\d\d)|Max retries exceeded"
    r"|Connection refused|timed out"
)
"""In the words of an error that MLflow's client made itself; so it words a refusal in plain text
too, as its servers send it for a wrong password (401), which is none."""

NOT_NOW = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two attempts; twice as long each time."""

IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}

log = logging.getLogger(__name__)


class ServerSilent(RuntimeError):
    """A server did not answer for as long as a step waits; its message says how to go on."""


def is_silence(error: BaseException) -> bool:
    """Whether a server gave no answer, or said that it can give none now."""
    if isinstance(error, requests.exceptions.HTTPError):
        return error.response is None or error.response.status_code >= 500
    if isinstance(error, requests.exceptions.RequestException):
        return True
    if not isinstance(error, MlflowException):
        return isinstance(error, ConnectionError | TimeoutError)
    return error.error_code in NOT_NOW or SAYINGS.search(str(error)) is not None


@contextmanager
def impatient() -> Iterator[None]:
    """Let MLflow's client ask once, and wait seconds for the answer."""
    before = {name: os.environ.get(name) for name in IMPATIENT}
    os.environ.update(IMPATIENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def outlast(go_on: str, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Do what asks MLflow; again and again while it does not answer.

    Args:
        go_on: the command that continues where this ends.
        work: may be carried out twice.
        args: its arguments.
        kwargs: more of them.

    Raises:
        ServerSilent: no answer came for `POSTTRAIN_PATIENCE_SECONDS`.
    """
    patience = Runtime.from_environment().patience_seconds
    until, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return work(*args, **kwargs)
        except SILENT as error:
            if not is_silence(error):
                raise
            if time.monotonic() + pause > until:
                raise ServerSilent(
                    f"MLflow did not answer for {patience:g} s ({error}); finished steps are kept. "
                    f"When it answers, go on: {go_on}"
                ) from error
            log.warning("MLflow does not answer, asked again in %g s: %s", pause, error)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
