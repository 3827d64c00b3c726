"""FSDP2 as far as it has been run: two processes on a CPU, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from posttrain.artifacts import BaseModel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RATE = 1e-2
CONFIG = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",  # of accelerate's launchers the one that needs no MPI
    "num_machines": 1,
    "num_processes": 2,
    "main_process_port": 0,
    "mixed_precision": "no",
    "use_cpu": True,
    "debug": False,
}


def alone(weights: Path, batches: list[list[list[int]]]) -> dict[str, torch.Tensor]:
    """The same steps in one process."""
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for batch in batches:
        rows = torch.tensor(batch)
        model(input_ids=rows, labels=rows, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return dict(model.state_dict())


def test_two_processes_share_the_weights_and_train_as_one(base: BaseModel, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    batches = torch.randint(1, 250, (3, 4, 32), generator=draw).tolist()
    weights = base.path / "weights"
    job, config = tmp_path / "job.json", tmp_path / "accelerate.json"
    job.write_text(
        json.dumps(
            {
                "weights": str(weights),
                "batches": batches,
                "learning_rate": RATE,
                "out": str(tmp_path),
            }
        )
    )
    config.write_text(json.dumps(CONFIG))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    done = subprocess.run(
        [*launch, "--module", "tests.sharded", str(job)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    held = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert sum(part for part, _ in held) == held[0][1]
    assert all(part < 0.6 * whole for part, whole in held)
    expected = alone(weights, batches)
    found = load_file(tmp_path / "weights.safetensors")
    for name, tensor in found.items():
        largest = float(expected[name].abs().max())
        assert_close(tensor, expected[name], rtol=0, atol=1e-4 * largest, msg=name)
