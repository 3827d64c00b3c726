"""Gates that can't hold, refused when a recipe is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from posttrain.recipe import PostTrainingRecipe, Recipe


@pytest.fixture
def values() -> dict[str, Any]:
    text = Path("zenml_config.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["parameters"]["recipe"]
    return found


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"stage": "ppo", "figure": "helpfulness"}, r"'ppo', which this run does not have \(it"),
        ({"stage": "rlaif", "figure": "helpfulness"}, "'rlaif', which this run does not have"),
        ({"figure": "mean_score"}, "'mean_score', which this run does not measure"),
        ({"figure": "kl_to_sft"}, "'kl_to_sft', which this run does not measure"),
        ({"figure": "helpful"}, r"'helpful', which this run does not measure.*'helpfulness'"),
    ],
)
def test_a_gate_of_what_fine_tuning_does_not_measure_is_refused(
    values: dict[str, Any], limit: dict[str, Any], message: str
) -> None:
    values["promotion"]["limits"].append({**limit, "at_least": 0.0})
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("limit", "stages"),
    [
        ({"stage": "sft", "figure": "kl_to_sft"}, "ppo and self_critique alone"),
        ({"stage": "untrained", "figure": "mean_score"}, "sft and ppo and self_critique alone"),
        ({"stage": "sft", "figure": "harness.arc_easy.acc"}, "untrained and self_critique alone"),
    ],
)
def test_a_gate_of_a_stage_that_lacks_the_figure_is_refused(
    values: dict[str, Any], limit: dict[str, Any], stages: str
) -> None:
    values["evaluation"]["harness"] = {"tasks": ["arc_easy"]}
    values["promotion"]["limits"].append({**limit, "at_most": 9.0})
    with pytest.raises(ValueError, match=f"of {limit['stage']}, and it is measured of {stages}"):
        PostTrainingRecipe(**values)
    values["promotion"]["limits"][-1]["stage"] = stages.split()[-2]
    PostTrainingRecipe(**values)


def test_a_gate_of_data_that_are_absent_is_refused(values: dict[str, Any]) -> None:
    values["promotion"] = {"limits": [{"figure": "perplexity_answers", "at_most": 9}]}
    Recipe(**values)
    del values["ingest"]["instructions"]
    with pytest.raises(ValueError, match="'perplexity_answers', which this run does not measure"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("rules", "rule", "message"),
    [
        ("limits", {"figure": "helpfulness"}, "final helpfulness has no bound"),
        (
            "limits",
            {"figure": "helpfulness", "at_least": 0.9, "at_most": 0.8},
            "at_least 0.9 above at_most 0.8: nothing lies between",
        ),
        (
            "limits",
            {"figure": "fact_accuracy.A", "at_least": 85},
            "at_least 85, and it is a share, from 0 to 1; write at_least: 0.85 for 85 per cent",
        ),
        ("limits", {"figure": "violation_rate", "at_most": -1}, "it is a share, from 0 to 1"),
        ("limits", {"figure": "perplexity_domain", "at_most": 0.5}, "no perplexity is below 1"),
        ("limits", {"figure": "helpfulness", "at_least": float("nan")}, "finite number"),
        (
            "against_champion",
            {"figure": "helpfulness", "higher_is_better": True},
            "helpfulness names neither of max_loss and min_gain; give one",
        ),
        (
            "against_champion",
            {"figure": "helpfulness", "higher_is_better": True, "max_loss": 0.1, "min_gain": 0},
            "helpfulness names both of max_loss and min_gain; give one",
        ),
        (
            "against_champion",
            {"figure": "helpfulness", "higher_is_better": True, "max_loss": 5},
            "write max_loss: 0.05 for 5 per cent; or add in_percent: true",
        ),
        (
            "against_champion",
            {"figure": "perplexity_domain", "higher_is_better": True, "max_loss": 5},
            "has higher_is_better: true, and lower is better; set it to false",
        ),
    ],
)
def test_a_gate_that_can_not_hold_is_refused(
    values: dict[str, Any], rules: str, rule: dict[str, Any], message: str
) -> None:
    values["promotion"][rules].append(rule)
    with pytest.raises(ValueError, match=message):
        Recipe(**values)
