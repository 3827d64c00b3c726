"""The GPU benchmark's own code on a CPU: every arm runs, and nothing is claimed that was not."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks import gpu
from benchmarks.gpu_models import KINDS, SHAPES, make_base


@pytest.mark.parametrize("shape", ["gemma-3-1b-tiny", "llama-3-8b-tiny"])
def test_every_arm_runs_on_a_cpu(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_DEVICE", "cpu")
    out = tmp_path / "gpu.json"
    gpu.main(["--tiny", "--shapes", shape, "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["machine"]["device"] == "CPU"
    assert [run["arm"] for run in found["runs"]] == list(gpu.ARMS)
    by_arm = {run["arm"]: run for run in found["runs"]}
    for run in found["runs"]:
        assert run["tokens_per_second"] > 0
        assert run["measured_bytes"] is run["estimate_error"] is None
        assert run["kernels"].startswith("float32 (a CPU)")
    weights = {arm: run["estimated"]["weights"] for arm, run in by_arm.items()}
    assert weights["qlora"] < weights["sft"] == weights["ppo"]
    assert by_arm["ppo"]["estimated"]["adapters"] > 4 * by_arm["sft"]["estimated"]["adapters"]
    assert by_arm["ppo"]["estimated"]["cache"] > 0


def test_what_ran_out_of_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = gpu.TINY["llama-3-8b-tiny"]
    base = make_base(shape, tmp_path / "base")
    monkeypatch.setattr(gpu, "by_sft", ran_out)
    run = gpu.measured("llama", "sft", base, gpu.SMALL, tmp_path / "sft")
    assert run.tokens_per_second is None
    assert "llama sft: out of memory; estimated" in gpu.line(run)


def ran_out(*_: object) -> float:
    raise torch.OutOfMemoryError


@pytest.mark.parametrize(("name", "billions"), [("gemma-3-1b", 1.0), ("llama-3-8b", 8.03)])
def test_the_shapes_are_of_the_sizes_that_they_are_named_for(name: str, billions: float) -> None:
    shape = dict(SHAPES[name])
    config = KINDS[shape.pop("model_type")](**shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() / 1e9 == pytest.approx(billions, rel=0.01)
