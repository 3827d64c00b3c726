"""Calls of MLflow's store that are tried again where it was merely busy."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException

Result = TypeVar("Result")

BUSY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""SQLite's `database is locked` comes as the first."""

GONE = ("RESOURCE_DOES_NOT_EXIST",)
ATTEMPTS = 8
PAUSE_SECONDS = 0.05


def patiently(call: Callable[[], Result]) -> Result:
    """The call's result; it must do no harm when it is carried out twice.

    Raises:
        MlflowException: as the store gave it, the last one where it stays busy.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except MlflowException as error:
            if error.error_code not in BUSY:
                raise
            time.sleep(PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
    return call()
