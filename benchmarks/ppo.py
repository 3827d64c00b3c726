"""Our PPO beside TRL's last PPOTrainer and a tutorial's loop: reward at equal KL, speed, memory.

    . .posttrain/env && python -m benchmarks.ppo --seeds 0 1 2

One model, reward model and list of prompts (the demo's, made once and kept in `.posttrain/bench`),
the same number of episodes, a process and a thread an arm, arms in turn within each seed. TRL runs
in an environment of its own (`baselines/trl_ppo_requirements.txt`); its learning rate is the best
of several on the first seed, judged on the very prompts that are reported. Prints a table and
writes `benchmarks/results/ppo.json`. Linux alone: memory is read from /proc.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.baselines.job import Job, snapshot
from benchmarks.baselines.trl_environment import trl_python
from benchmarks.ppo_judge import Judge
from benchmarks.ppo_models import ROOT, demo_recipe, models
from benchmarks.ppo_start import Models
from benchmarks.ppo_table import AT_KL, Run, as_json, table
from posttrain.align.ppo_update import draw
from posttrain.align.rows import read_prompts
from posttrain.models.device import prepare
from posttrain.recipe import PostTrainingRecipe
from posttrain.recipe.ppo import PpoRecipe

BENCH = ROOT / ".posttrain" / "bench"
RESULTS = ROOT / "benchmarks" / "results" / "ppo.json"
DENSE = 4
TUTORIAL_RATE = 1e-5


@dataclass(frozen=True)
class Arm:
    """A way to run PPO."""

    name: str
    module: str
    rates: tuple[float, ...] = ()
    """Learning rates to choose from; none: the recipe's."""

    lora: bool = True
    changes: tuple[tuple[str, Any], ...] = ()
    """Of our recipe."""

    @property
    def is_ours(self) -> bool:
        return self.module == "benchmarks.ppo_arm"


OURS = Arm("ours", "benchmarks.ppo_arm")
OURS_FROM_SFT = Arm("ours, value from SFT", "benchmarks.ppo_arm", changes=(("value_init", "sft"),))
TRL = "benchmarks.baselines.trl_ppo"
TRL_LORA = Arm("TRL, LoRA", TRL, rates=(4e-4, 1e-3, 2e-3))
TRL_FULL = Arm("TRL, full", TRL, rates=(3e-5, 1e-4, 3e-4), lora=False)
TUTORIAL = Arm("tutorial", "benchmarks.baselines.tutorial_ppo", (TUTORIAL_RATE,), lora=False)
ARMS = (OURS, OURS_FROM_SFT, TRL_LORA, TRL_FULL, TUTORIAL)


@dataclass(frozen=True)
class Trained:
    """A run that is to be judged."""

    arm: Arm
    job: Job


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    recipe: PostTrainingRecipe
    models: Models
    judge: Judge
    folder: Path

    def ppo(self, arm: Arm, seed: int, rate: float | None) -> PpoRecipe:
        """The recipe's section, run to its end: every arm has the same number of episodes."""
        changes = {"seed": seed, "stop_at_gain": None, **dict(arm.changes)}
        if rate is not None:
            changes["learning_rate"] = rate
        return self.recipe.ppo.model_copy(update=changes)

    def job(self, ppo: PpoRecipe, arm: Arm, out: Path) -> Job:
        """The same run in words that need no library of ours."""
        prompts = [prompt.ids for prompt in read_prompts(self.judge.tokens, ppo.prompt_set)]
        drawn = [draw(prompts, number + 1, ppo) for number in range(ppo.num_iterations)]
        sizes = self.recipe.sft.lora
        return Job(
            sft=str(self.models.plain_sft),
            reward=str(self.models.plain_reward),
            prompts=[prompt for batch in drawn for prompt in batch],
            seed=ppo.seed,
            batch_size=ppo.batch_size,
            max_new_tokens=ppo.max_new_tokens,
            temperature=ppo.temperature,
            learning_rate=ppo.learning_rate,
            lora={"rank": sizes.rank, "alpha": sizes.alpha} if arm.lora else None,
            ppo={
                name: value
                for name, value in ppo.model_dump().items()
                if isinstance(value, int | float)
            },
            snapshot_every=1,
            out=str(out),
        )

    def train(self, arm: Arm, seed: int, rate: float | None, python: str) -> Trained:
        """Train one arm in a process of its own; a run that is there already is kept."""
        ppo = self.ppo(arm, seed, rate)
        out = self.folder / f"{arm.name}-{seed}-{ppo.learning_rate:g}".replace(" ", "-")
        out.mkdir(parents=True, exist_ok=True)
        job = self.job(ppo, arm, out)
        if not (out / "cost.json").exists():
            self.write_scored_rows(out)
            (out / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
            command = [python, "-m", arm.module, str(out / "job.json")]
            if arm.is_ours:
                (out / "models.json").write_text(self.models.model_dump_json(), encoding="utf-8")
                command += [str(out / "models.json"), ppo.model_dump_json()]
            call(command)
        return Trained(arm, job)

    def judged(self, trained: Trained) -> Run:
        """Judge the policies that a run kept; SFT's own figures come first."""
        job, ours = trained.job, trained.arm.is_ours
        base = self.models.domain / "weights" if ours else self.models.plain_sft
        points, policy = [self.judge.of_sft], self.judge.sft
        for iteration in kept(len(job.prompts) // job.batch_size):
            policy = self.judge.load(snapshot(Path(job.out), iteration), base)
            points.append(self.judge.point(policy, iteration))
        return Run(
            arm=trained.arm.name,
            seed=job.seed,
            learning_rate=job.learning_rate,
            cost=json.loads((Path(job.out) / "cost.json").read_text(encoding="utf-8")),
            points=tuple(points),
            accuracy=self.judge.accuracy(policy),
        )

    def write_scored_rows(self, out: Path) -> None:
        """SFT's answers with our scores: a baseline compares its own way of scoring with them."""
        found = self.judge.by_sft
        std = self.models.artifacts[3].facts.score_std
        rows = [
            {"prompt": prompt, "response": response, "score": score / std}
            for prompt, response, score in zip(
                self.judge.prompts, found.responses, found.scores, strict=True
            )
        ]
        (out / "scored_rows.json").write_text(json.dumps(rows), encoding="utf-8")


def call(command: Sequence[str]) -> None:
    """Run a process on one thread; ends the benchmark if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{' '.join(command)[:500]} failed:\n{found.stdout[-2000:]}{found.stderr[-4000:]}")


def kept(num_iterations: int) -> list[int]:
    """Iterations whose policies are judged: close together where the KL that counts is passed."""
    every = range(1, num_iterations + 1)
    return [one for one in every if one <= DENSE or one % 2 == 0 or one == num_iterations]


def best(runs: Sequence[Run]) -> Run:
    """The run with the highest gain at the highest KL of the table."""
    return max(runs, key=lambda run: run.gain_at(AT_KL[-1]) or 0.0)


def measure(bench: Bench, seeds: Sequence[int], pythons: dict[str, str]) -> tuple[list[Run], ...]:
    """The arms in turn, seed after seed; one is judged while the next one trains.

    Returns:
        The runs, and those of the first seed by learning rates that were not chosen.
    """
    runs: list[Run] = []
    others: list[Run] = []
    with ThreadPoolExecutor(max_workers=1) as judges:
        rates: dict[str, Sequence[float | None]] = {arm.name: arm.rates or (None,) for arm in ARMS}
        for seed in seeds:
            waiting = {
                arm.name: [
                    judges.submit(bench.judged, bench.train(arm, seed, rate, pythons[arm.name]))
                    for rate in rates[arm.name]
                ]
                for arm in ARMS
            }
            for name, futures in waiting.items():
                found = [future.result() for future in futures]
                chosen = best(found)
                rates[name] = (chosen.learning_rate,)
                runs.append(chosen)
                others += [run for run in found if run is not chosen]
                for run in found:
                    print(name, seed, run.summary, flush=True)
    return runs, others


def main() -> None:
    """Run the arms, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="two rollouts; writes no results")
    parser.add_argument("--go-on", action="store_true", help="keep the runs of an earlier call")
    asked = parser.parse_args()
    os.chdir(ROOT)
    for name in ("work", "checkpoints", "cache"):
        os.environ[f"POSTTRAIN_{name.upper()}"] = str(BENCH / name)
    os.environ["POSTTRAIN_THREADS"] = "1"
    recipe = demo_recipe()
    prepare(recipe.seed)
    found = models(recipe, BENCH)
    if asked.quick:
        recipe = recipe.model_copy(
            update={"ppo": recipe.ppo.model_copy(update={"num_iterations": 2})}
        )
    folder = BENCH / ("quick" if asked.quick else "runs")
    if not asked.go_on:
        shutil.rmtree(folder, ignore_errors=True)
    bench = Bench(recipe, found, Judge(found, recipe), folder)
    pythons = {arm.name: sys.executable for arm in ARMS}
    pythons |= dict.fromkeys([TRL_LORA.name, TRL_FULL.name], trl_python(BENCH))
    runs, others = measure(bench, asked.seeds, pythons)
    if not asked.quick:
        RESULTS.write_text(as_json(runs, others, recipe), encoding="utf-8")
    print(table(runs))


if __name__ == "__main__":
    main()
