"""Two processes that train the same stage write their checkpoints apart; the next takes them up."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posttrain.train.slots import own

HOLD = """
import sys, time
from pathlib import Path
from posttrain.train.slots import own
print(own(Path(sys.argv[1])), own(Path(sys.argv[1])), flush=True)
time.sleep(1e6)
"""


@contextmanager
def holder(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    words = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()
        process.kill()


def test_each_process_has_a_folder_and_keeps_it(tmp_path: Path) -> None:
    stage = tmp_path / "sft-1a2b"
    with holder(stage) as (_, first), holder(stage) as (_, second):
        assert first == [str(stage)] * 2
        assert second == [f"{stage}-2"] * 2
        assert own(tmp_path / "ppo-1a2b") == tmp_path / "ppo-1a2b"


def test_checkpoints_are_taken_up_before_an_empty_name(tmp_path: Path) -> None:
    """The first run ended well and left none; the second was killed."""
    stage = tmp_path / "sft-1a2b"
    left = tmp_path / "sft-1a2b-2" / "checkpoint-900"
    left.mkdir(parents=True)
    with holder(stage) as (_, first), holder(stage) as (_, second):
        assert first == [f"{stage}-2"] * 2
        assert second == [str(stage)] * 2


def test_the_folder_of_a_killed_process_is_taken_up(tmp_path: Path) -> None:
    stage = tmp_path / "sft-1a2b"
    with holder(stage) as (first, _), holder(stage):
        first.send_signal(signal.SIGKILL)
        first.wait()
        with holder(stage) as (_, third):
            assert third == [str(stage)] * 2
