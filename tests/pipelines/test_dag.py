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

PIPELINES = [(fine_tuning, EDGES), (post_training, POST_TRAINING)]


@pytest.fixture(scope="module")
def recipe() -> PostTrainingRecipe:
    text = Path("zenml_config.yaml").read_text(encoding="utf-8")
    return PostTrainingRecipe(**yaml.safe_load(text)["parameters"]["recipe"])


def sources(invocation: Any) -> dict[str, Any]:
    """Input name -> the artifact that it comes from."""
    return {
        name: found[0] if isinstance(found, list | tuple) else found
        for name, found in invocation.input_artifacts.items()
    }


@pytest.mark.parametrize(("pipeline", "edges"), PIPELINES)
def test_every_edge_by_input_name(
    pipeline: Any, edges: dict[str, dict[str, str]], recipe: PostTrainingRecipe
) -> None:
    pipeline.prepare(recipe=recipe)
    found = {
        name: {key: f"{a.invocation_id}.{a.output_name}" for key, a in sources(step).items()}
        for name, step in pipeline.invocations.items()
    }
    assert found == edges


@pytest.mark.parametrize(("pipeline", "edges"), PIPELINES)
def test_every_edge_joins_equal_types(
    pipeline: Any, edges: dict[str, dict[str, str]], recipe: PostTrainingRecipe
) -> None:
    pipeline.prepare(recipe=recipe)
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
name, heavy = sys.argv[1], sys.argv[2:]
sys.modules.update(dict.fromkeys(heavy))  # None: importing it fails
import importlib
import yaml
from posttrain.recipe import PostTrainingRecipe
pipeline = getattr(importlib.import_module(f"pipelines.{name}"), name)
with open("zenml_config.yaml", encoding="utf-8") as file:
    content = yaml.safe_load(file)["parameters"]["recipe"]
pipeline.prepare(recipe=PostTrainingRecipe(**content))
print(*pipeline.invocations)
"""


@pytest.mark.parametrize(
    ("name", "edges"), [("fine_tuning", EDGES), ("post_training", POST_TRAINING)]
)
def test_dag_compiles_without_heavy_libraries(name: str, edges: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, name, *HEAVY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= set(edges)
