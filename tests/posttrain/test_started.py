"""A process is called dead where that is certain, and nowhere else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from posttrain.started import Started

TELL = """
from posttrain.started import Started
import sys, time
sys.argv = ["/usr/local/bin/zenml", "pipeline", "run", "a file"]
print(Started.here().model_dump_json(), flush=True)
time.sleep(1e6)
"""


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", TELL], stdout=subprocess.PIPE, text=True) as found:
        yield found
        found.kill()


def told(process: "subprocess.Popen[str]") -> Started:
    assert process.stdout is not None
    return Started.model_validate_json(process.stdout.readline())


def test_a_killed_process_is_dead_before_and_after_it_is_reaped(
    process: "subprocess.Popen[str]",
) -> None:
    started = told(process)
    assert started.command == "zenml pipeline run 'a file'"
    assert started.fate(store_is_local=True) == "alive"
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie still
    assert started.fate(store_is_local=False) == "dead"
    process.wait()
    assert started.fate(store_is_local=False) == "dead"


def test_another_process_of_the_same_number_is_another(process: "subprocess.Popen[str]") -> None:
    started = told(process)
    earlier = started.model_copy(update={"began": str(int(started.began) - 1)})
    assert earlier.fate(store_is_local=True) == "dead"


@pytest.mark.parametrize(
    ("field", "store_is_local", "fate"),
    [
        ("boot", True, "dead"),  # this machine, before it was started again
        ("boot", False, "unknown"),  # or another one of the same name
        ("namespace", True, "unknown"),  # a container's
    ],
)
def test_what_can_not_be_seen_from_here_is_not_judged(
    process: "subprocess.Popen[str]", field: str, store_is_local: bool, fate: str
) -> None:
    there = told(process).model_copy(update={field: "another"})
    assert there.fate(store_is_local=store_is_local) == fate


def test_another_machine_is_not_judged(process: "subprocess.Popen[str]") -> None:
    there = told(process).model_copy(update={"boot": "another", "host": "another"})
    assert there.fate(store_is_local=True) == "unknown"
