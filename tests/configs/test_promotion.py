"""Every configuration of the pipeline `promotion` is loaded: ZenML passes over unknown keys."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from zenml.config.pipeline_run_configuration import PipelineRunConfiguration

from pipelines.promotion import promotion
from posttrain.recipe.approval import ApprovalRecipe
from tests.configs.test_config import COMMAND, unknown, unknown_settings

FILES = sorted(map(str, Path("recipes/promotion").glob("*.yaml")))
STEPS = {"challenger", "gate", "decide"}


def load(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    return content


def test_yaml_reaches_every_step_of_the_pipeline() -> None:
    # ZenML passes over the steps of a dynamic pipeline that it was not told of
    assert {step.name for step in promotion.depends_on} == STEPS


@pytest.mark.parametrize("file", FILES)
def test_every_key_is_known(file: str) -> None:
    content = load(file)
    ApprovalRecipe(**content["parameters"]["recipe"])
    assert unknown(content, PipelineRunConfiguration) == set()
    assert unknown_settings(content["settings"]) == set()
    assert content["steps"] == {name: {"experiment_tracker": "posttrain_mlflow"} for name in STEPS}


@pytest.mark.parametrize("file", FILES)
def test_the_command_in_the_comment_runs_the_file(file: str) -> None:
    found = re.search(COMMAND, Path(file).read_text(encoding="utf-8"))
    assert found and found.groups() == ("promotion", "promotion", file)


def test_the_demos_model_is_the_one_that_the_demo_registers() -> None:
    registered = load("zenml_config.yaml")["parameters"]["recipe"]["registration"]["model_name"]
    assert load("recipes/promotion/ferry_guide.yaml")["parameters"]["recipe"]["model_name"] == (
        registered
    )


@pytest.mark.parametrize(
    "field", [{"wait_minutes": 0}, {"version": 0}, {"model": "ferry-guide"}, {"gate": {}}]
)
def test_what_makes_no_sense_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        ApprovalRecipe(**{"model_name": "ferry-guide", **field})
