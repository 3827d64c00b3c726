"""A flame graph of one stage: where its time goes, by pyinstrument.

    . .posttrain/env && python -m benchmarks.stage_profile sft

The demo's recipe and sample data, in one process, without ZenML; what the stage needs is made
first, with few steps, and is not in the graph. Writes HTML to `.posttrain/profiles/`; `--text`
prints the tree too. `--tiny` is for tests: a model of 32 wide, on little data.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pyinstrument import Profiler

from benchmarks.rows.c09_orchestration import LIMITS, SHAPE, SMALL
from posttrain.align import ppo, reward_model, self_critique
from posttrain.artifacts import BaseModel, Policy, Revisions, Tokens
from posttrain.data.ingest import ingest
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.data.validate import validate
from posttrain.evaluate.stages import Stages, evaluate
from posttrain.models.base import resolve
from posttrain.recipe import PostTrainingRecipe
from posttrain.train import base_finetune, sft

ROOT = Path(__file__).parent.parent
OUT = ROOT / ".posttrain" / "profiles"
STEPS = {"base_finetune": 200, "sft": 60, "reward_model": 60}
ITERATIONS = 2


@dataclass(frozen=True)
class Stage:
    """A stage's call, and whose results it takes before the recipe."""

    call: Callable[..., Any]
    needs: tuple[str, ...] = ()


TRAINED = ("tokenize", "base_finetune", "sft")
STAGES = {
    "ingest": Stage(lambda recipe: ingest(recipe.ingest)),
    "validate": Stage(lambda raw, recipe: validate(raw, recipe.validation), ("ingest",)),
    "base_model": Stage(
        lambda valid, recipe: resolve(valid.records, recipe.base_model, recipe.preflight),
        ("validate",),
    ),
    "template": Stage(
        lambda valid, base, recipe: template(valid.records, base, recipe.template),
        ("validate", "base_model"),
    ),
    "tokenize": Stage(
        lambda chats, base, recipe: tokenize(chats, base, recipe.tokenize),
        ("template", "base_model"),
    ),
    "base_finetune": Stage(
        lambda tokens, base, recipe: base_finetune.train(tokens, base, recipe.base_finetune),
        ("tokenize", "base_model"),
    ),
    "sft": Stage(
        lambda tokens, domain, recipe: sft.train(tokens, domain, recipe.sft),
        ("tokenize", "base_finetune"),
    ),
    "reward_model": Stage(
        lambda tokens, domain, assistant, recipe: reward_model.train(
            tokens, domain, assistant, recipe.reward_model
        ),
        TRAINED,
    ),
    "ppo": Stage(
        lambda tokens, domain, assistant, reward, recipe: ppo.train(
            tokens, domain, assistant, reward, recipe.ppo
        ),
        (*TRAINED, "reward_model"),
    ),
    "self_critique": Stage(lambda *taken: _self_critique(*taken), TRAINED),
    "evaluate": Stage(
        lambda tokens, domain, assistant, base, reward, valid, recipe: evaluate(
            Stages(tokens, base, domain, assistant, reward), valid.quarantine, recipe.evaluation
        ),
        (*TRAINED, "base_model", "reward_model", "validate"),
    ),
}


def _self_critique(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: PostTrainingRecipe
) -> tuple[Policy, Revisions] | Revisions:
    try:
        return self_critique.train(tokens, domain, assistant, assistant, recipe.self_critique)
    except self_critique.NothingKept as failure:
        # so short a training keeps few samples, or none: drafts and critiques were timed
        return failure.revisions


def recipe(tiny: bool) -> PostTrainingRecipe:
    """The demo's, with few steps; `tiny` makes its model and data small."""
    values = yaml.safe_load((ROOT / "zenml_config.yaml").read_text(encoding="utf-8"))
    found = values["parameters"]["recipe"]
    for stage, steps in STEPS.items():
        found[stage]["max_steps"] = 2 if tiny else steps
    found["ppo"]["num_iterations"] = ITERATIONS
    found["self_critique"]["min_critic_accuracy"] = 0
    if tiny:
        for section in ("ppo", "self_critique", "evaluation", "promotion"):
            found[section] |= SMALL[section]
        found["base_model"]["from_config"] |= SHAPE
        for role, limit in LIMITS.items():
            found["ingest"][role]["limit"] = limit
    return PostTrainingRecipe.model_validate(found)


def profile(stage: str, values: PostTrainingRecipe) -> Profiler:
    """Run a stage under the profiler, and before that what it needs."""
    made: dict[str, Any] = {}

    def make(name: str) -> None:
        if name not in made:
            for need in STAGES[name].needs:
                make(need)
            made[name] = run(name)

    def run(name: str) -> Any:
        return STAGES[name].call(*(made[need] for need in STAGES[name].needs), values)

    for need in STAGES[stage].needs:
        make(need)
    profiler = Profiler()
    with profiler:
        run(stage)
    return profiler


def main(argv: Sequence[str] | None = None) -> None:
    """Profile the stage that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--text", action="store_true", help="print the tree")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on little data")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="posttrain-profile-") as folder:
        for name in ("work", "checkpoints", "cache"):
            os.environ[f"POSTTRAIN_{name.upper()}"] = f"{folder}/{name}"
        profiler = profile(asked.stage, recipe(asked.tiny))
    asked.out.mkdir(parents=True, exist_ok=True)
    target = asked.out / f"{asked.stage}.html"
    target.write_text(profiler.output_html(), encoding="utf-8")
    if asked.text:
        print(profiler.output_text(show_all=False))
    print(f"{target}: open it in a browser")


if __name__ == "__main__":
    main()
