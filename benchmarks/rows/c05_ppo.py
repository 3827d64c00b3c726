"""C5: PPO, samples a second, against the tutorial's loop and TRL 1.12's PPOTrainer. Speed alone.

What reward TRL, the tutorial's loop and ours reach at equal KL, `make bench-ppo` shows on a trained
model. Each turn is a process of its own, TRL's in an environment of its own; loading is not timed.
Every setting is the recipe's: two epochs over each rollout, policy and value function. The
tutorial's own loop goes over each answer once and has no reference, no KL and no value function:
beside it ours goes over each once too, and still does the rest. `single_ppo` is the tutorial's
manner (four whole models, one answer at a time) with our recipe's algorithm and optimizer steps.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.baselines.job import Job
from benchmarks.baselines.trl_environment import trl_python
from benchmarks.gpu_models import make_assistant, make_reward
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import SEED, lengths, make_base, make_tokens, texts, tokenizer
from benchmarks.ppo_models import ROOT, export
from benchmarks.ppo_start import Models
from posttrain.align.ppo_update import draw
from posttrain.models.device import prepare as prepare_torch
from posttrain.recipe.ppo import PpoHealth, PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.sft import SftRecipe

PROMPT_LENGTH = 24
OURS = "benchmarks.ppo_arm"


def recipe(quick: bool, **more: Any) -> PpoRecipe:
    """A short run that nothing stops: the weights are random."""
    sizes = {"batch_size": 4, "max_new_tokens": 4} if quick else {}
    return PpoRecipe.model_validate(
        {
            "num_iterations": 2,
            "batch_size": 32,
            "max_new_tokens": 64,
            "num_held_out": 2,  # the other arms measure none
            "learning_rate": 1e-6,
            "max_kl": 1e6,
            "max_minibatch_kl": 1e6,
            "checkpoint_every_iterations": 1_000,
            "seed": SEED,
            "health": PpoHealth(
                entropy_collapse="ignore", length_alone="ignore", repetition="ignore"
            ),
            **sizes,
            **more,
        }
    )


def make_models(bench: Bench, prompts: list[list[int]]) -> Models:
    """Random models as artifacts, and the baselines' copies of them."""
    base = make_base(bench)
    sft = SftRecipe(learning_rate=1e-5, num_epochs=1, batch_size=1)
    assistant = make_assistant(base, sft, bench.folder / "assistant")
    by = RewardModelRecipe(learning_rate=1e-5, num_epochs=1, batch_size=1, max_new_tokens=1)
    reward = make_reward(base, assistant, by, bench.folder / "reward")
    rows = [
        {
            "id": f"q{n}",
            "kind": "k",
            "group": "g",
            "set": "rollout",
            "messages": [],
            "prompt_ids": p,
        }
        for n, p in enumerate(prompts)
    ]
    made = Models(
        tokens=make_tokens(bench.folder / "tokens", prompts=rows).path,
        domain=base.path,
        assistant=assistant.path,
        reward=reward.path,
        plain_sft=bench.folder / "plain-sft",
        plain_reward=bench.folder / "plain-reward",
    )
    export(made)
    return made


def job(models: Models, by: PpoRecipe, prompts: list[list[int]], out: Path) -> Job:
    """The run in words that need no library of ours."""
    drawn = [draw(prompts, number + 1, by) for number in range(by.num_iterations)]
    lora = SftRecipe(learning_rate=1e-5, num_epochs=1, batch_size=1).lora
    return Job(
        sft=str(models.plain_sft),
        reward=str(models.plain_reward),
        prompts=[prompt for batch in drawn for prompt in batch],
        seed=by.seed,
        batch_size=by.batch_size,
        max_new_tokens=by.max_new_tokens,
        temperature=by.temperature,
        learning_rate=by.learning_rate,
        lora={"rank": lora.rank, "alpha": lora.alpha},
        ppo={
            name: value for name, value in by.model_dump().items() if isinstance(value, int | float)
        },
        snapshot_every=by.num_iterations + 1,
        out=str(out),
    )


def prepare(bench: Bench) -> Prepared:
    """Models of random weights, and an arm a process."""
    prepare_torch(SEED)
    prompts = texts(lengths(16 if bench.quick else 64, PROMPT_LENGTH))
    models = make_models(bench, prompts)
    twice, once = recipe(bench.quick), recipe(bench.quick, num_epochs=1)
    trl = trl_python(bench.cache)

    def arm(
        name: str, module: str, by: PpoRecipe, python: str = sys.executable, dtype: str = "float32"
    ) -> Arm:
        out = bench.folder / name.replace(" ", "-")
        task = job(models, by, prompts, out)

        def run(watch: Watch) -> None:
            start(task, module, python, by, models, dtype)
            cost = json.loads((out / "cost.json").read_text(encoding="utf-8"))
            watch.add(cost["cpu_seconds"], cost["wall_seconds"])
            watch.count(cost["num_episodes"])
            watch.note(peak_mb=cost["peak_mb"], growth_mb=cost["growth_mb"])

        return Arm(name, run, dtype)

    arms = [
        arm("ours, once", OURS, once),
        arm("ours, once, bfloat16", OURS, once, dtype="bfloat16"),
        arm("tutorial", "benchmarks.baselines.tutorial_ppo", once),
        arm("ours", OURS, twice),
        arm("ours, bfloat16", OURS, twice, dtype="bfloat16"),
        arm("one by one", "benchmarks.baselines.single_ppo", twice),
        arm("TRL", "benchmarks.baselines.trl_ppo", twice, trl),
    ]
    facts = {"seed": SEED, "samples": twice.batch_size * twice.num_iterations}
    return Prepared(arms, {**facts, "max_new_tokens": twice.max_new_tokens})


def start(task: Job, module: str, python: str, by: PpoRecipe, models: Models, dtype: str) -> None:
    """Train one arm in a process; ends the benchmark if it fails."""
    out = Path(task.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "job.json").write_text(json.dumps(asdict(task)), encoding="utf-8")
    (out / "scored_rows.json").write_text(json.dumps(scored_rows(task)), encoding="utf-8")
    command = [python, "-m", module, str(out / "job.json")]
    if module == OURS:
        (out / "models.json").write_text(models.model_dump_json(), encoding="utf-8")
        command += [str(out / "models.json"), by.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "POSTTRAIN_DTYPE": dtype}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{' '.join(command)[:300]} failed:\n{found.stdout[-2000:]}{found.stderr[-4000:]}")


def scored_rows(task: Job) -> list[dict[str, Any]]:
    """Two rows for TRL's own comparison of scores, which nobody reads here."""
    end = int(tokenizer().eos_token_id)
    return [{"prompt": one, "response": [end], "score": 0.0} for one in task.prompts[:2]]


def against(what: str, ours: str, theirs: str, bound: float, aim: float) -> Target:
    """A comparison."""
    return Target(what=what, ours=ours, theirs=theirs, bound=bound, aim=aim)


ROW = Row(
    name="C5",
    title="PPO, samples/s",
    targets=(
        against("four whole models, one answer at a time", "ours", "one by one", 5, 10),
        against(
            "four whole models, one answer at a time; ours in bfloat16",
            "ours, bfloat16",
            "one by one",
            5,
            10,
        ),
        against("the tutorial's loop, without KL and value", "ours, once", "tutorial", 5, 10),
        against(
            "the tutorial's loop, without KL and value; ours in bfloat16",
            "ours, once, bfloat16",
            "tutorial",
            5,
            10,
        ),
        against("TRL 1.12", "ours", "TRL", 1.7, 3),
        against("TRL 1.12; ours in bfloat16", "ours, bfloat16", "TRL", 1.7, 3),
    ),
    prepare=prepare,
    num_warm=0,
)
