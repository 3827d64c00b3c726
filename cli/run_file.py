"""A run's YAML as `zenml pipeline run -c` takes it, and the keys in it that nobody knows.

ZenML passes over unknown keys without a word: a misspelt setting would be none.
"""

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel

    from posttrain.recipe import Recipe

Pipeline = Literal["post_training", "fine_tuning"]

ALIGNING = ("reward_model", "self_critique")
"""Sections that `post_training` needs and `fine_tuning` does without."""


def read(file: Path) -> dict[str, Any]:
    """The file's content.

    Raises:
        ValueError: it is not there, is no YAML, has no recipe, or a value where keys are wanted.
    """
    from posttrain.settings_file import read_yaml

    content = read_yaml(file)
    parameters = content.get("parameters") if isinstance(content, dict) else None
    if not isinstance(parameters, dict) or not isinstance(parameters.get("recipe"), dict):
        raise ValueError(
            f"{file}: has no `parameters.recipe`; what is trained stands there, as in "
            "zenml_config.yaml"
        )
    _check_blocks(file, content)
    return dict(content)


def _check_blocks(file: Path, content: dict[str, Any]) -> None:
    """Refuse a value where ZenML wants names and their values."""
    _check_settings(f"{file}: settings", content.get("settings"))
    for name, step in _block(f"{file}: steps", content.get("steps")).items():
        where = f"{file}: steps.{name}"
        _check_settings(f"{where}.settings", _block(where, step).get("settings"))


def _check_settings(where: str, settings: Any) -> None:
    for name, block in _block(where, settings).items():
        _block(f"{where}.{name}", block)


def _block(where: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(
            f"{where}: found {reprlib.repr(value)}; names and their values are wanted, as in "
            "zenml_config.yaml"
        )
    return value


def pipeline_of(content: dict[str, Any]) -> Pipeline:
    """The pipeline that a file's sections are for."""
    recipe = content["parameters"]["recipe"]
    # `init` writes every field: a section that is null is none
    aligns = any(recipe.get(name) is not None for name in ALIGNING)
    return "post_training" if aligns else "fine_tuning"


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
    others = passed_over(content, pipeline)
    told += _unknown("steps.", [n for n in steps if n not in others], steps_of(pipeline))
    for name, block in steps.items():
        known = list(StepConfigurationUpdate.model_fields)
        told += _unknown(f"steps.{name}.", block or {}, known)
        told += _unknown_settings(f"steps.{name}.settings.", (block or {}).get("settings") or {})
    return told


def passed_over(content: dict[str, Any], pipeline: Pipeline) -> list[str]:
    """Steps of the file that only the other pipeline has, as one file may serve both."""
    known = {name for other in get_args(Pipeline) for name in steps_of(other)}
    known -= set(steps_of(pipeline))
    return [name for name in content.get("steps") or {} if name in known]


def steps_of(pipeline: Pipeline) -> list[str]:
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


def _unknown(where: str, block: Iterable[str], known: list[str]) -> list[str]:
    from posttrain.recipe.mistakes import nearest

    return [
        f"{where}{name}: nobody reads this key{nearest(str(name), known)}"
        for name in block
        if name not in known
    ]
