"""A run's YAML as `zenml pipeline run -c` takes it, and the keys in it that nobody knows.

ZenML passes over unknown keys without a word: a misspelt setting would be none.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from posttrain.recipe import Recipe

Pipeline = Literal["post_training", "fine_tuning"]

ALIGNING = ("reward_model", "self_critique")
"""Sections that `post_training` needs and `fine_tuning` does without."""


def read(file: Path) -> dict[str, Any]:
    """The file's content.

    Raises:
        ValueError: it is not there, is no YAML, or has no recipe.
    """
    import yaml

    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: is no YAML: {error}") from error
    parameters = content.get("parameters") if isinstance(content, dict) else None
    if not isinstance(parameters, dict) or not isinstance(parameters.get("recipe"), dict):
        raise ValueError(
            f"{file}: has no `parameters.recipe`; what is trained stands there, as in "
            "zenml_config.yaml"
        )
    return dict(content)


def pipeline_of(content: dict[str, Any]) -> Pipeline:
    """The pipeline that a file's sections are for."""
    recipe = content["parameters"]["recipe"]
    return "post_training" if any(name in recipe for name in ALIGNING) else "fine_tuning"


def recipe_class(pipeline: Pipeline) -> "type[Recipe]":
    """What the pipeline takes."""
    from posttrain.recipe import PostTrainingRecipe, Recipe

    return PostTrainingRecipe if pipeline == "post_training" else Recipe


def unknown_keys(content: dict[str, Any], pipeline: Pipeline) -> list[str]:
    """A sentence a key that neither ZenML nor the pipeline knows."""
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration
    from zenml.config.step_configurations import StepConfigurationUpdate

    told = _unknown("", content, list(PipelineRunConfiguration.model_fields))
    told += _unknown("parameters.", content["parameters"], ["recipe"])
    told += _unknown_settings("settings.", content.get("settings") or {})
    steps = content.get("steps") or {}
    told += _unknown("steps.", steps, _steps(pipeline))
    for name, block in steps.items():
        known = list(StepConfigurationUpdate.model_fields)
        told += _unknown(f"steps.{name}.", block or {}, known)
        told += _unknown_settings(f"steps.{name}.settings.", (block or {}).get("settings") or {})
    return told


def _steps(pipeline: Pipeline) -> list[str]:
    """Names of the steps that a pipeline may have."""
    import importlib

    from zenml.steps import BaseStep

    module = importlib.import_module(f"pipelines.{pipeline}")
    return [name for name, value in vars(module).items() if isinstance(value, BaseStep)]


def _unknown_settings(where: str, settings: dict[str, Any]) -> list[str]:
    from zenml.utils.settings_utils import is_valid_setting_key

    classes = _settings_classes()
    told = []
    for name, block in settings.items():
        if name in classes:
            known = list(classes[name].model_fields)
            told += _unknown(f"{where}{name}.", block or {}, known)
        # a component's type alone will do, and flavors may be anyone's
        elif not is_valid_setting_key(name) or name.startswith("experiment_tracker."):
            told += _unknown(where, {name: block}, list(classes))
    return told


def _settings_classes() -> "dict[str, type[BaseModel]]":
    from zenml.config import DockerSettings, ResourceSettings
    from zenml.integrations.mlflow.flavors.mlflow_experiment_tracker_flavor import (
        MLFlowExperimentTrackerSettings,
    )

    return {
        "docker": DockerSettings,
        "resources": ResourceSettings,
        "experiment_tracker.mlflow": MLFlowExperimentTrackerSettings,
    }


def _unknown(where: str, block: dict[str, Any], known: list[str]) -> list[str]:
    from posttrain.recipe.mistakes import nearest

    return [
        f"{where}{name}: nobody reads this key{nearest(str(name), known)}"
        for name in block
        if name not in known
    ]
