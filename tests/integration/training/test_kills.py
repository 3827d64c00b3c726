"""Stages killed or asked to end at random moments end, run again, in the bytes of no signal."""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.artifacts import Folder
from posttrain.tracking import read_history
from tests.faults import Injected, times
from tests.integration.training.conftest import KINDS, Runner, Whole, log_of, made

pytestmark = pytest.mark.slow

KILLS = range(times(quick=1, few=2, full=50))
TERMS = range(times(quick=1, few=2, full=10))

STAGES = [stage for stage in KINDS if stage != "dpo"]
"""DPO's trainer is that of the other stages, told another loss."""

GRACE_SECONDS = 30
"""What Kubernetes gives a container where nothing else is said; a step here takes milliseconds."""


def ended_by(
    number: signal.Signals, runner: Runner, work: Path, stage: str, moment: float
) -> tuple[int, Path]:
    """The status of a run that the signal ended; one that was over before is no such run."""
    for attempt in range(8):
        folder = work / f"{stage}-{attempt}"
        status = runner.run(stage, folder, seconds=moment, signal=number)
        if status != 0:
            return status, folder
        moment /= 1.3
    raise AssertionError(log_of(folder))


@pytest.mark.fault("Training", "a stage is killed", "SIGKILL at a random moment, five stages")
@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_ends_in_the_same_bytes(
    runner: Runner, whole: Whole, tmp_path: Path, injected: Injected, stage: str, kill: int
) -> None:
    expected = whole(stage)
    share = (kill + random.Random(f"{stage} {kill}").random()) / len(KILLS)
    moment = expected.seconds * share
    status, work = ended_by(signal.SIGKILL, runner, tmp_path, stage, moment)
    assert status == -signal.SIGKILL, log_of(work)
    assert runner.run(stage, work) == 0, log_of(work)
    is_equal = expected.is_equalled(stage, work)
    injected.add(lost=not is_equal)
    assert is_equal


@pytest.mark.parametrize("stage", ["base_finetune", "sft", "reward_model", "self_critique"])
def test_the_curve_of_a_killed_run_is_that_of_a_whole_one(
    runner: Runner, whole: Whole, tmp_path: Path, stage: str
) -> None:
    """It goes on after an odd step, whose loss is part of the point at the next even one."""
    stop = {"signal": signal.SIGKILL, "stop_at": "*/checkpoint-10"}
    assert runner.run(stage, tmp_path, **stop) == -signal.SIGKILL
    kept = {int(one.name.split("-")[1]): one for one in tmp_path.glob("checkpoints/*/checkpoint-*")}
    odd = max(step for step in kept if step % 2)  # two are kept, and they are written every 5 steps
    for step in kept:
        if step > odd:
            shutil.rmtree(kept[step])
    assert runner.run(stage, tmp_path) == 0, log_of(tmp_path)
    found = losses(made(stage, tmp_path))
    assert found[0][0] == 2
    assert found == losses(whole(stage).artifact)


def losses(artifact: Folder[Any]) -> list[tuple[int, float]]:
    """Steps and losses of a stage's curve."""
    points = read_history(artifact.path)
    return [(int(point["step"]), point["loss"]) for point in points]


@pytest.mark.fault("Training", "a stage is asked to end", "SIGTERM at a random moment, five stages")
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_asked_to_end_never_finishes_and_goes_on(
    runner: Runner, whole: Whole, tmp_path: Path, injected: Injected, stage: str, term: int
) -> None:
    """143 where a step was at hand; outside of steps nothing is unsaved, and the signal ends it."""
    expected = whole(stage)
    share = (term + random.Random(f"{stage} {term}").random()) / len(TERMS)
    moment = expected.seconds * share
    begun = time.monotonic()
    status, work = ended_by(signal.SIGTERM, runner, tmp_path, stage, moment)
    assert time.monotonic() - begun < 8 * expected.seconds + GRACE_SECONDS
    assert status in (128 + signal.SIGTERM, -signal.SIGTERM), log_of(work)
    assert not (work / "made").exists()
    if status > 0:
        assert "Interrupted: " in log_of(work)
        assert "run the same command again, it continues from" in " ".join(log_of(work).split())
        assert list(work.glob("checkpoints/*/checkpoint-*/seal.json"))
    assert runner.run(stage, work) == 0, log_of(work)
    is_equal = expected.is_equalled(stage, work)
    injected.add(lost=not is_equal)
    assert is_equal
