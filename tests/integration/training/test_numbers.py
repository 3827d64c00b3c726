"""A NaN or an infinity in a loss, a gradient or a weight: seen in its step, named, gone on from."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from posttrain.train.checkpoints import Checkpoints
from tests.faults import Injected, times
from tests.integration.training.conftest import KINDS, Runner, Whole, log_of

pytestmark = pytest.mark.slow

VALUES = ("nan", "inf")[: times(quick=1, few=1, full=2)]
AFTER = (11, 7, 13)[: times(quick=1, few=1, full=3)]
"""Optimizer steps; the newest checkpoint then is that of step 10, 5 or 10."""

CASES = [(value, after) for value in VALUES for after in AFTER]
NAMED = r"FloatingPointError: (\w+) (step|iteration) (\d+).*?(?:rows|prompts) ([\w, -]+)"


@pytest.mark.fault(
    "Training",
    "a NaN or an infinity",
    "in the loss, the gradient or a weight, in mid-run, six stages",
)
@pytest.mark.parametrize(("value", "after"), CASES)
@pytest.mark.parametrize("what", ["loss", "gradient", "weight"])
@pytest.mark.parametrize("stage", list(KINDS))
def test_what_is_no_number_is_seen_in_its_step(
    runner: Runner,
    whole: Whole,
    tmp_path: Path,
    injected: Injected,
    stage: str,
    what: str,
    value: str,
    after: int,
) -> None:
    expected = whole(stage)
    fault = {"what": what, "value": value, "after": after}
    assert runner.run(stage, tmp_path, fault=fault) == 1, log_of(tmp_path)
    log = " ".join(log_of(tmp_path).split())
    found = re.search(NAMED, log)
    assert found, log
    named, kind, number, rows = found.groups()
    assert named == stage
    step = after if what == "weight" else after + 1
    # an iteration of PPO has two epochs of two minibatches, each a step of policy and value
    assert int(number) == (step if kind == "step" else (step - 1) // 8 + 1)
    listed = re.sub(r" and \d+ more", "", rows).strip()
    assert set(listed.split(", ")) <= known_rows(runner.world, stage)
    newest = newest_of(tmp_path, stage)
    assert f"The last good checkpoint is {newest.name} in {newest.parent}" in log
    assert all_finite(newest)
    (tmp_path / "log").unlink()
    assert runner.run(stage, tmp_path) == 0, log_of(tmp_path)
    is_equal = expected.is_equalled(stage, tmp_path)
    injected.add(lost=not is_equal)
    assert is_equal


def known_rows(world: Path, stage: str) -> set[str]:
    """Ids of what a stage may learn from."""
    if stage == "base_finetune":
        return {f"block {number}" for number in range(60)}
    roles = {"sft": ["instructions"], "ppo": ["prompts"], "self_critique": ["prompts"]}
    if stage == "self_critique":
        roles[stage].append("instructions")
    files = [world / "tokens" / f"{role}.parquet" for role in roles.get(stage, ["preferences"])]
    return {name for file in files for name in pq.read_table(file)["id"].to_pylist()}


def newest_of(work: Path, stage: str) -> Path:
    (folder,) = (work / "checkpoints").glob(f"{stage}-*")
    found = Checkpoints(folder).newest()
    assert found is not None
    return found


def all_finite(checkpoint: Path) -> bool:
    files = list(checkpoint.rglob("*.safetensors"))
    assert files
    held: list[dict[str, Any]] = [load_file(file) for file in files]
    return all(bool(torch.isfinite(one).all()) for tensors in held for one in tensors.values())
