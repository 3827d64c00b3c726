"""Each file of each stage's newest checkpoint, damaged: the one before it is taken, and goes on."""

import shutil
import signal
from pathlib import Path

import pytest

from posttrain.train.checkpoints import Checkpoints
from tests.faults import LEVEL, Injected
from tests.integration.training.conftest import KINDS, Runner, Whole, log_of

pytestmark = pytest.mark.slow

STOP_AT = {stage: f"{stage}-*/checkpoint-10" for stage in KINDS}
STOP_AT |= {"ppo": "ppo-*/checkpoint-3", "drafts": "drafts-*/checkpoint-2"}

DAMAGES = ("flipped", "cut", "missing")


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif how == "cut":
        file.write_bytes(content[:-1])
    else:
        file.unlink()


def newest_two(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[-2:]


@pytest.mark.fault(
    "Training",
    "a checkpoint is damaged",
    "a flipped bit, a cut, a missing file: each file of the newest, six stages and the drafts",
)
@pytest.mark.parametrize("kept", list(STOP_AT))
def test_a_damaged_checkpoint_is_passed_over(
    runner: Runner, whole: Whole, tmp_path: Path, injected: Injected, kept: str
) -> None:
    """Each damage is looked at; at the full level each file's is also gone on from, to the end."""
    stage = "self_critique" if kept == "drafts" else kept
    work = tmp_path / "ended"
    stop = {"signal": signal.SIGTERM, "stop_at": STOP_AT[kept]}
    assert runner.run(stage, work, **stop) == 128 + signal.SIGTERM, log_of(work)
    (folder,) = (work / "checkpoints").glob(f"{kept}-*")
    before, newest = newest_two(folder)
    assert Checkpoints(folder).newest() == newest
    names = [str(file.relative_to(newest)) for file in newest.rglob("*") if file.is_file()]
    lost = []
    for index, name in enumerate(sorted(names)):
        for how in DAMAGES:
            whole_file = (newest / name).read_bytes()
            damage(newest / name, how)
            if Checkpoints(folder).newest() != before:
                lost.append((name, how))
            (newest / name).write_bytes(whole_file)
        if LEVEL == "full" or index == 0:
            lost += gone_on(runner, whole, stage, work, (newest / name, DAMAGES[index % 3]))
    injected.add(len(names) * len(DAMAGES), lost=len(lost))
    assert not lost


def gone_on(
    runner: Runner, whole: Whole, stage: str, work: Path, damaged: tuple[Path, str]
) -> list[tuple[str, str]]:
    """Run the stage to its end on a copy with one damage; what of that made other bytes."""
    file, how = damaged
    copy = shutil.copytree(work, work.parent / "copy")
    damage(copy / file.relative_to(work), how)
    assert runner.run(stage, copy) == 0, log_of(copy)
    is_equal = whole(stage).is_equalled(stage, copy)
    shutil.rmtree(copy)
    return [] if is_equal else [(file.name, f"{how}, gone on from")]
