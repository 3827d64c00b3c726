"""C9: what ZenML, the hand-over of artifacts and the tracker cost, beside the steps' own work.

The whole DAG of `zenml_config.yaml`, its models and steps cut down to seconds, on the embedded
stack, each run in a process of its own that has imported what it needs. Of the first run the time
outside step functions counts, by steps; of a run that changes nothing all of its time.
"""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch

ROOT = Path(__file__).parent.parent.parent
SMALL: dict[str, dict[str, Any]] = {
    "base_finetune": {"max_steps": 400},
    "sft": {"max_steps": 60},
    "reward_model": {"max_steps": 2, "max_new_tokens": 8},
    "ppo": {"num_iterations": 1, "batch_size": 8, "num_held_out": 8, "max_new_tokens": 8},
    "self_critique": {
        "max_steps": 2,
        "max_new_tokens": 32,
        "min_critic_accuracy": 0,
        "no_fault_markers": [""],  # so small a model mends nothing
    },
    "evaluation": {"max_new_tokens": 8, "num_bootstrap": 20},
    "promotion": {"limits": [{"figure": "perplexity_domain", "at_most": 1e9}]},
}
"""Section -> what is smaller than in the default run."""

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2}
LIMITS = {"corpus": 400, "instructions": 300, "preferences": 60, "prompts": 60, "probes": 40}
ALWAYS = {"register", "promote"}


def prepare(bench: Bench) -> Prepared:
    """A state in which the DAG has run once; another, empty one, for each turn of the first run."""
    file = bench.folder / "run.yaml"
    file.write_text(yaml.safe_dump(small(), allow_unicode=True), encoding="utf-8")
    done = bench.folder / "done"
    _run(done, "first", file)
    turns = iter(range(1_000))

    def first(watch: Watch) -> None:
        found = _run(bench.folder / f"fresh-{next(turns)}", "first", file)
        statuses = found["statuses"]
        assert set(statuses.values()) == {"completed"}, statuses
        run, bodies = found["run"], found["bodies"]
        outside = run["wall_seconds"] - bodies["wall_seconds"]
        watch.add(run["cpu_seconds"] - bodies["cpu_seconds"], outside)
        watch.count(1)
        watch.note(per_step=outside / len(statuses), run_seconds=run["wall_seconds"])

    def again(watch: Watch) -> None:
        found = _run(done, "again", file)
        ran = {name for name, status in found["statuses"].items() if status == "completed"}
        assert ran == ALWAYS, found["statuses"]
        watch.add(found["run"]["cpu_seconds"], found["run"]["wall_seconds"])
        watch.count(1)
        watch.note(bodies=found["bodies"]["wall_seconds"])

    return Prepared([Arm("again", again), Arm("first", first)], {"steps": 13})


def small() -> dict[str, Any]:
    """The default run, cut down."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "zenml_config.yaml").read_text("utf-8"))
    recipe = values["parameters"]["recipe"]
    for section, changes in SMALL.items():
        recipe[section] |= changes
    recipe["base_model"]["from_config"] |= SHAPE
    for role, limit in LIMITS.items():
        recipe["ingest"][role] |= {"limit": limit}
    return values


def _run(state: Path, mode: str, file: Path) -> dict[str, Any]:
    """Run the DAG in a process of its own, on a stack whose state lies in `state`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ZENML_CONFIG_PATH": str(state / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow.db'}",
        **{f"POSTTRAIN_{n.upper()}": str(state / n) for n in ("work", "cache", "checkpoints")},
    }
    call = partial(
        subprocess.run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if not state.exists():
        call(["posttrain", "stack", "embedded", "--state", str(state)]).check_returncode()
    done = call([sys.executable, "-m", "benchmarks.dag_arm", mode, str(file)])
    if done.returncode:
        raise RuntimeError(f"the DAG failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


ROW = Row(
    name="C9",
    title="Orchestration",
    targets=(
        Target(
            what="a step, beside its own work",
            ours="first",
            figure="per_step",
            bound=0.5,
            aim=0.25,
            at_most=True,
            unit="s",
        ),
        Target(
            what="an unchanged rerun of all 13 steps",
            ours="again",
            figure="wall_seconds",
            bound=4,
            aim=2,
            at_most=True,
            unit="s",
        ),
    ),
    prepare=prepare,
    num_warm=0,
)
