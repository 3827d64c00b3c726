"""ZenML ignores keys that it does not know; these tests do not."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from zenml.config import DockerSettings, ResourceSettings
from zenml.config.pipeline_run_configuration import PipelineRunConfiguration
from zenml.config.step_configurations import StepConfigurationUpdate
from zenml.integrations.mlflow.flavors.mlflow_experiment_tracker_flavor import (
    MLFlowExperimentTrackerSettings,
)

from pipelines.post_training import post_training
from posttrain.recipe import PostTrainingRecipe

PIPELINE = post_training
SETTINGS: dict[str, type[BaseModel]] = {
    "docker": DockerSettings,
    "resources": ResourceSettings,
    "experiment_tracker.mlflow": MLFlowExperimentTrackerSettings,
}
DEFAULT = Path("zenml_config.yaml").read_text(encoding="utf-8")


def load(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def unknown(block: dict[str, Any], model: type[BaseModel]) -> set[str]:
    return set(block) - set(model.model_fields)


def unknown_settings(settings: dict[str, Any]) -> set[str]:
    return set(settings) - set(SETTINGS) | {
        f"{name}.{key}"
        for name, block in settings.items()
        if name in SETTINGS
        for key in unknown(block, SETTINGS[name])
    }


def problems(config: dict[str, Any]) -> set[str]:
    PIPELINE.prepare(recipe=PostTrainingRecipe(**config["parameters"]["recipe"]))
    found = unknown(config, PipelineRunConfiguration)
    found |= set(config["steps"]) - set(PIPELINE.invocations)
    found |= unknown_settings(config.get("settings", {}))
    for block in config["steps"].values():
        found |= unknown(block, StepConfigurationUpdate)
        found |= unknown_settings(block.get("settings", {}))
    return found


@pytest.mark.parametrize(
    "file", ["zenml_config.yaml", "recipes/tiny_dpo.yaml", "recipes/tiny_rlaif.yaml"]
)
def test_every_key_of_a_run_is_known(file: str) -> None:
    assert problems(load(Path(file).read_text(encoding="utf-8"))) == set()


@pytest.mark.parametrize(
    ("right", "typo", "found"),
    [
        ("\nsettings:", "\nsetings:", {"setings"}),
        ("nested:", "nestd:", {"experiment_tracker.mlflow.nestd"}),
        ("experiment_tracker.mlflow:", "experiment_tracker.mlfow:", {"experiment_tracker.mlfow"}),
        ("  sft: {experiment", "  sftt: {experiment", {"sftt"}),
        ("sft: {experiment_tracker:", "sft: {experiment_traker:", {"experiment_traker"}),
    ],
)
def test_typos_are_caught(right: str, typo: str, found: set[str]) -> None:
    assert right in DEFAULT
    assert problems(load(DEFAULT.replace(right, typo))) == found


@pytest.mark.parametrize("typo", ["learning_rat", "chat_templat", "at_leas"])
def test_a_misspelt_recipe_field_is_refused(typo: str) -> None:
    right = {"learning_rat": "learning_rate", "chat_templat": "chat_template"}.get(typo, "at_least")
    with pytest.raises(ValueError, match=typo):
        PostTrainingRecipe(**load(DEFAULT.replace(f"{right}:", f"{typo}:"))["parameters"]["recipe"])
