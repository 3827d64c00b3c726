from pathlib import Path
from typing import Any

import pytest
import yaml

from posttrain.recipe import Recipe


@pytest.fixture
def values() -> dict[str, Any]:
    text = Path("zenml_config.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["parameters"]["recipe"]
    return found


def test_sections_inherit_the_seed_unless_they_name_one(values: dict[str, Any]) -> None:
    values["seed"] = 7
    values["sft"]["seed"] = 3
    recipe = Recipe(**values)
    assert recipe.base_finetune.seed == recipe.evaluation.seed == 7
    assert recipe.sft.seed == 3


def test_a_gate_on_a_figure_that_nobody_measures_is_refused(values: dict[str, Any]) -> None:
    values["promotion"]["limits"].append({"figure": "fact_accuracyy", "at_least": 0.5})
    with pytest.raises(ValueError, match="promotion names the figure 'fact_accuracyy'"):
        Recipe(**values)


def test_sequences_longer_than_the_positions_are_refused(values: dict[str, Any]) -> None:
    values["tokenize"]["max_length"] = 4096
    with pytest.raises(ValueError, match=r"\(4096\) exceeds base_model.from_config.max_positions"):
        Recipe(**values)


def test_from_config_needs_its_section(values: dict[str, Any]) -> None:
    values["base_model"] = {"source": "from_config"}
    with pytest.raises(ValueError, match="from_config is absent; they go together"):
        Recipe(**values)


def test_the_recipe_is_immutable(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe(**values).seed = 1  # type: ignore[misc]
