"""The DAG, written once more so that a change to it is a decision."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from pipelines.fine_tuning import fine_tuning
from pipelines.post_training import post_training
from posttrain.recipe import PostTrainingRecipe

EDGES = {
    "ingest": {},
    "validate": {"records": "ingest.raw_records"},
    "base_model": {"records": "validate.records"},
    "template": {"records": "validate.records", "base": "base_model.base"},
    "tokenize": {"chats": "template.chats", "base": "base_model.base"},
    "base_finetune": {"tokens": "tokenize.tokens", "base": "base_model.base"},
    "sft": {"tokens": "tokenize.tokens", "domain": "base_finetune.domain"},
    "evaluate": {
        "tokens": "tokenize.tokens",
        "base": "base_model.base",
        "domain": "base_finetune.domain",
        "assistant": "sft.assistant",
        "quarantine": "validate.quarantine",
    },
    "register": {
        "domain": "base_finetune.domain",
        "aligned": "sft.assistant",
        "evaluation": "evaluate.evaluation",
    },
    "promote": {"version": "register.version", "evaluation": "evaluate.evaluation"},
}

POST_TRAINING = {
    **EDGES,
    "reward_model": {
        "tokens": "tokenize.tokens",
        "domain": "base_finetune.domain",
        "assistant": "sft.assistant",
    },
    "ppo": {
        "tokens": "tokenize.tokens",
        "domain": "base_finetune.domain",
        "assistant": "sft.assistant",
        "reward": "reward_model.reward",
    },
    "self_critique": {
        "tokens": "tokenize.tokens",
        "domain": "base_finetune.domain",
        "assistant": "sft.assistant",
        "policy": "ppo.policy",
    },
    "evaluate": {
        **EDGES["evaluate"],
        "reward": "reward_model.reward",
        "policy": "ppo.policy",
        "aligned": "self_critique.aligned",
        "revisions": "self_critique.revisions",
    },
    "register": {**EDGES["register"], "aligned": "self_critique.aligned"},
}

DPO = {
    **{name: edges for name, edges in POST_TRAINING.items() if name != "ppo"},
    "dpo": {
        "tokens": "tokenize.tokens",
        "domain": "base_finetune.domain",
        "assistant": "sft.assistant",
    },
    "self_critique": {**POST_TRAINING["self_critique"], "policy": "dpo.policy"},
    "evaluate": {**POST_TRAINING["evaluate"], "policy": "dpo.policy"},
}

RLAIF = {
    **POST_TRAINING,
    "ai_preferences": {
        "tokens": "tokenize.tokens",
        "domain": "base_finetune.domain",
        "assistant": "sft.assistant",
        "revisions": "self_critique.revisions",
    },
    "rlaif_reward_model": {
        "tokens": "tokenize.tokens",
        "domain": "base_finetune.domain",
        "assistant": "sft.assistant",
        "preferences": "ai_preferences.ai_preferences",
    },
    "rlaif_ppo": {
        "tokens": "tokenize.tokens",
        "domain": "base_finetune.domain",
        "aligned": "self_critique.aligned",
        "reward": "rlaif_reward_model.rlaif_reward",
    },
    "evaluate": {
        **POST_TRAINING["evaluate"],
        "preferences": "ai_preferences.ai_preferences",
        "rlaif_reward": "rlaif_reward_model.rlaif_reward",
        "rlaif_policy": "rlaif_ppo.rlaif_policy",
    },
    "register": {**POST_TRAINING["register"], "aligned": "rlaif_ppo.rlaif_policy"},
}

DEFAULT, TINY_DPO, TINY_RLAIF = (
    Path(name) for name in ("zenml_config.yaml", "recipes/tiny_dpo.yaml", "recipes/tiny_rlaif.yaml")
)
PIPELINES = [
    (fine_tuning, EDGES, DEFAULT),
    (post_training, POST_TRAINING, DEFAULT),
    (post_training, DPO, TINY_DPO),
    (post_training, RLAIF, TINY_RLAIF),
]


def recipe_of(file: Path) -> PostTrainingRecipe:
    text = file.read_text(encoding="utf-8")
    return PostTrainingRecipe(**yaml.safe_load(text)["parameters"]["recipe"])


def sources(invocation: Any) -> dict[str, Any]:
    """Input name -> the artifact that it comes from."""
    return {
        name: found[0] if isinstance(found, list | tuple) else found
        for name, found in invocation.input_artifacts.items()
    }


@pytest.mark.parametrize(("pipeline", "edges", "file"), PIPELINES)
def test_every_edge_by_input_name(
    pipeline: Any, edges: dict[str, dict[str, str]], file: Path
) -> None:
    pipeline.prepare(recipe=recipe_of(file))
    found = {
        name: {key: f"{a.invocation_id}.{a.output_name}" for key, a in sources(step).items()}
        for name, step in pipeline.invocations.items()
    }
    assert found == edges


@pytest.mark.parametrize(("pipeline", "edges", "file"), PIPELINES)
def test_every_edge_joins_equal_types(
    pipeline: Any, edges: dict[str, dict[str, str]], file: Path
) -> None:
    pipeline.prepare(recipe=recipe_of(file))
    steps = pipeline.invocations
    for name, invocation in steps.items():
        wanted = invocation.step.entrypoint_definition.inputs
        for key, artifact in sources(invocation).items():
            outputs = steps[artifact.invocation_id].step.entrypoint_definition.outputs
            made = outputs[artifact.output_name].resolved_annotation
            annotation = wanted[key].annotation
            accepted = [a for a in get_args(annotation) if a is not type(None)] or [annotation]
            assert accepted == [made], f"{name}.{key}"


HEAVY = ["torch", "transformers", "trl", "peft", "datasets", "great_expectations", "mlflow"]
COMPILE = """
import sys
name, file, *heavy = sys.argv[1:]
sys.modules.update(dict.fromkeys(heavy))  # None: importing it fails
import importlib
import os
import yaml
from zenml.utils import source_utils
from posttrain.recipe import PostTrainingRecipe
source_utils.set_custom_source_root(os.getcwd())  # as the command zenml does
pipeline = getattr(importlib.import_module(f"pipelines.{name}"), name)
with open(file, encoding="utf-8") as stream:
    content = yaml.safe_load(stream)["parameters"]["recipe"]
pipeline.prepare(recipe=PostTrainingRecipe(**content))
print(*pipeline.invocations)
"""


@pytest.mark.parametrize(("pipeline", "edges", "file"), PIPELINES)
def test_dag_compiles_without_heavy_libraries(
    pipeline: Any, edges: dict[str, Any], file: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, pipeline.name, str(file), *HEAVY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= set(edges)
