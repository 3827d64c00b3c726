"""SFT, QLoRA and PPO on models of real shapes: tokens a second, memory, and the estimate's error.

    . .posttrain/env && python -m benchmarks.gpu            # a GPU of 80 GB
    . .posttrain/env && python -m benchmarks.gpu --tiny     # the same code on a CPU

Weights are random, rows as long as they may be. Writes `benchmarks/results/gpu.json`. Memory is the
most that torch's allocator held; on a CPU it is not measured. The first step is warm-up and is not
counted.
"""

import argparse
import gc
import json
import tempfile
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoConfig

from benchmarks.gpu_models import (
    SHAPES,
    TINY,
    make_assistant,
    make_base,
    make_reward,
    make_tokens,
)
from posttrain.align import ppo
from posttrain.artifacts import BaseModel
from posttrain.models.device import Kernels, device, kernels
from posttrain.models.memory import StageMemory, estimate
from posttrain.models.seal import weights_folder
from posttrain.recipe.ppo import PpoHealth, PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.section import Section
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.recipe.workload import Workload
from posttrain.runtime import Runtime
from posttrain.tracking import read_history
from posttrain.train import sft

RESULTS = Path(__file__).parent / "results" / "gpu.json"
Arm = Literal["sft", "qlora", "ppo"]
ARMS: tuple[Arm, ...] = ("sft", "qlora", "ppo")


class Sizes(Section):
    """How much an arm does at a time; the same for every shape."""

    rows: int
    """Sequences a forward pass."""

    length: int
    """Tokens of a conversation, and of a prompt."""

    answer: int
    """Tokens of an answer."""

    answers: int
    """Prompts a rollout."""

    steps: int
    """Optimizer steps, and rollouts; the first is warm-up."""

    rank: int


REAL = Sizes(rows=4, length=1_024, answer=128, answers=32, steps=12, rank=16)
SMALL = Sizes(rows=2, length=32, answer=8, answers=4, steps=3, rank=4)


class Run(Section):
    """One arm on one shape."""

    shape: str
    arm: Arm
    kernels: str
    num_parameters: int
    tokens_per_second: float | None
    """Of packed rows; in PPO of answers, sampled, scored and learned from. Absent where memory ran
    out."""

    measured_bytes: int | None
    """Absent on a CPU, and where memory ran out."""

    estimated: StageMemory
    estimate_error: float | None
    """Estimate over measure, less 1."""


def main(argv: list[str] | None = None) -> None:
    """Run the arms that are asked for, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small shapes, for a CPU")
    parser.add_argument("--shapes", nargs="+", help="by default all")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    shapes, sizes = (TINY, SMALL) if asked.tiny else (SHAPES, REAL)
    runs = []
    for name in asked.shapes or shapes:
        with tempfile.TemporaryDirectory(prefix="posttrain-gpu-") as folder:
            base = make_base(shapes[name], Path(folder, "base"))
            for arm in asked.arms:
                runs.append(measured(name, arm, base, sizes, Path(folder, arm)))
                print(line(runs[-1]), flush=True)
    found = {"machine": machine(), "sizes": sizes, "runs": runs}
    asked.out.write_text(json.dumps(found, indent=1, default=Section.model_dump) + "\n")


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    on_gpu = device(Runtime.from_environment()).type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    return {"device": name, "torch": torch.__version__}


def measured(shape: str, arm: Arm, base: BaseModel, sizes: Sizes, folder: Path) -> Run:
    """Run one arm, and compare its memory with the estimate."""
    folder.mkdir()
    chosen = kernels(Runtime.from_environment(), base.facts.architecture)
    gc.collect()  # the models of the arm before
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    speed: float | None
    try:
        speed = by_ppo(base, sizes, folder) if arm == "ppo" else by_sft(arm, base, sizes, folder)
    except torch.OutOfMemoryError:
        speed = None
    peak = None
    if speed is not None and device(Runtime.from_environment()).type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    expected = expected_of(arm, base, sizes, chosen)
    return Run(
        shape=shape,
        arm=arm,
        kernels=str(chosen),
        num_parameters=base.facts.num_parameters,
        tokens_per_second=speed,
        measured_bytes=peak,
        estimated=expected,
        estimate_error=None if peak is None else expected.total / peak - 1,
    )


def sft_recipe(arm: Arm, sizes: Sizes) -> SftRecipe:
    """LoRA on every linear layer, gradient checkpointing on."""
    return SftRecipe(
        method="qlora" if arm == "qlora" else "lora",
        lora=LoraRecipe(rank=sizes.rank, alpha=2 * sizes.rank),
        learning_rate=1e-5,
        num_epochs=1,
        max_steps=sizes.steps,
        batch_size=sizes.rows,
        gradient_checkpointing=True,
        log_every_steps=1,
    )


def by_sft(arm: Arm, base: BaseModel, sizes: Sizes, folder: Path) -> float:
    """Tokens a second of packed rows."""
    tokens = make_tokens(folder / "tokens", sizes.rows * sizes.steps, sizes.length, 1)
    policy = sft.train(tokens, base, sft_recipe(arm, sizes))
    times = [point["seconds"] or 0.0 for point in read_history(policy.path) if "seconds" in point]
    return (len(times) - 1) * sizes.rows * sizes.length / (times[-1] - times[0])


def ppo_recipe(sizes: Sizes) -> PpoRecipe:
    """One pass over each rollout; nothing stops it: the weights are random."""
    return PpoRecipe(
        num_iterations=sizes.steps,
        batch_size=sizes.answers,
        forward_batch_size=sizes.rows,
        generation_batch_size=sizes.answers,
        num_held_out=sizes.answers,
        num_epochs=1,
        num_minibatches=1,
        learning_rate=1e-6,
        max_new_tokens=sizes.answer,
        max_kl=1e6,
        max_minibatch_kl=1e6,
        checkpoint_every_iterations=sizes.steps,
        health=PpoHealth(entropy_collapse="ignore", length_alone="ignore", repetition="ignore"),
    )


def by_ppo(base: BaseModel, sizes: Sizes, folder: Path) -> float:
    """Tokens of answers a second, from prompt to update."""
    tokens = make_tokens(folder / "tokens", 1, sizes.length, sizes.answers)
    assistant = make_assistant(base, sft_recipe("sft", sizes), folder / "assistant")
    by = RewardModelRecipe(learning_rate=1e-5, num_epochs=1, batch_size=1, max_new_tokens=1)
    reward = make_reward(base, assistant, by, folder / "reward")
    gc.collect()
    if torch.cuda.is_available():  # what made the reward model is no part of the stage
        torch.cuda.reset_peak_memory_stats()
    policy = ppo.train(tokens, base, assistant, reward, ppo_recipe(sizes))
    speeds = [point["tokens_per_second"] or 0.0 for point in read_history(policy.path)][1:]
    return len(speeds) / sum(1 / speed for speed in speeds)


def expected_of(arm: Arm, base: BaseModel, sizes: Sizes, chosen: Kernels) -> StageMemory:
    """The estimate, as `posttrain check` makes it."""
    recipe = sft_recipe(arm, sizes)
    shared = {"lora": recipe.lora, "rows": sizes.rows, "advice": {}}
    if arm == "ppo":
        whole = sizes.length + sizes.answer
        work = Workload(
            stage=arm,
            num_adapters=4,
            num_learning=2,
            num_heads=2,
            length=whole,
            reads="answers",
            answer_length=sizes.answer,
            generated_rows=sizes.answers,
            generated_length=whole,
            **shared,
        )
    else:
        work = Workload(
            stage=arm,
            quantization=recipe.quantization if arm == "qlora" else None,
            num_adapters=1,
            num_learning=1,
            length=sizes.length,
            reads="hidden",
            gradient_checkpointing=True,
            **shared,
        )
    config = AutoConfig.from_pretrained(str(weights_folder(base)))
    return estimate(config, work, chosen.dtype, flat="flash" in chosen.attention)


def line(run: Run) -> str:
    """A run in words."""
    speed = "out of memory"
    if run.tokens_per_second is not None:
        speed = f"{run.tokens_per_second:,.0f} tokens/s"
    error = "not measured"
    if run.estimate_error is not None:
        error = f"{run.estimate_error:+.1%}"
    gib = run.estimated.in_gib("total")
    return f"{run.shape} {run.arm}: {speed}; estimated {gib}, its error {error}; {run.kernels}"


if __name__ == "__main__":
    main()
