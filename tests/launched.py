"""A stage for the launcher's tests: what several processes may meet, apart from training."""

import os
import signal
import time
from pathlib import Path
from typing import Literal

import torch

from posttrain import processes
from posttrain.models.device import prepare
from posttrain.recipe.section import Section
from posttrain.tracking import log_figures

FOREVER = 1e6


class Met(Section):
    """What the processes told one another."""

    ranks: tuple[int, ...]
    threads: tuple[int, ...]
    work: tuple[Path, ...]


def train(what: Literal["meet", "refuse", "die", "sleep"], notes: Path) -> Met:
    """Do one of four things.

    Args:
        what: meet the others; refuse the arguments; let the second process be killed; sleep.
        notes: a folder in which each process leaves its id.
    """
    runtime = prepare(seed=0)
    (notes / str(os.getpid())).touch()
    processes.wait()
    if what == "refuse":
        raise ValueError("sft: the run has no instructions; name ingest.instructions")
    if what == "die" and processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(FOREVER)
    log_figures("meet", {"rank": processes.rank()})
    return Met(
        ranks=tuple(processes.gathered([processes.rank()])),
        threads=tuple(processes.gathered([torch.get_num_threads()])),
        work=tuple(processes.gathered([runtime.work])),
    )
