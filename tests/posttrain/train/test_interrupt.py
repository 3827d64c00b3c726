"""How a process ends that SIGTERM interrupted."""

import subprocess
import sys
from pathlib import Path

import pytest

from posttrain.failures import Failure, first_failure
from posttrain.train.interrupt import Interrupted

RAISE = """
from posttrain.train.interrupt import Interrupted
try:
    raise Interrupted("saved; run it again")
except Exception:  # of a caller who goes on after an error
    pass
"""


def test_the_process_ends_as_one_that_the_signal_ended() -> None:
    done = subprocess.run([sys.executable, "-c", RAISE], check=False)
    assert done.returncode == 143


def test_of_several_processes_too(tmp_path: Path) -> None:
    Failure.of(Interrupted("saved; run it again")).save(tmp_path, 0)
    error = first_failure(tmp_path, 1)
    with pytest.raises(Interrupted, match="saved") as caught:
        raise error or AssertionError
    assert caught.value.code == 143
