"""The benchmarks' section, alone and beside the gate that names its figures."""

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


@pytest.mark.parametrize("rules", ["limits", "against_champion"])
def test_a_gate_may_name_the_recipes_benchmarks(values: dict[str, Any], rules: str) -> None:
    compared = {"higher_is_better": True, "max_loss": 0.01}
    bound = {"at_least": 0.5} if rules == "limits" else compared
    figure = "harness.longproc_html_to_tsv_0.5k.f1"
    values["promotion"][rules].append({"figure": figure, **bound})
    with pytest.raises(ValueError, match=r"no harness.<task>.<metric> .* evaluation.harness \(abs"):
        Recipe(**values)
    values["evaluation"]["harness"] = {"tasks": ["longproc_html_to_tsv_0"]}
    Recipe(**values)  # a metric `5k.f1` that nobody measures fails in the gate
    values["evaluation"]["harness"] = {"tasks": ["longproc_html_to_tsv_0.5k"]}
    Recipe(**values)
    values["evaluation"]["harness"] = {"tasks": ["arc_easy"]}
    with pytest.raises(ValueError, match=r"evaluation.harness \(\['arc_easy'\]\); add its task"):
        Recipe(**values)
    values["promotion"][rules][-1]["figure"] = "harness.arc_easy"
    with pytest.raises(ValueError, match=r"'harness.arc_easy', which is no harness"):
        Recipe(**values)


def test_a_benchmarks_context_fits_the_positions(values: dict[str, Any]) -> None:
    longest = values["base_model"]["from_config"]["max_positions"]
    values["evaluation"]["harness"] = {"tasks": ["arc_easy"], "max_length": longest}
    Recipe(**values)
    values["evaluation"]["harness"]["max_length"] = longest + 1
    with pytest.raises(ValueError, match=r"evaluation.harness.max_length \(\d+\) exceeds"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harness": {"tasks": ["arc_easy", "arc_easy"]}}, r"tasks: named twice: \['arc_easy'\]"),
        ({"harness": {"tasks": []}}, "at least 1 item"),
        ({"harness": {"tasks": ["mmlu,arc"]}}, "should match pattern"),
        (
            {"probes": [{"name": "harness", "kind": "cloze", "sets": ["A"]}]},
            "give the probe another name",
        ),
    ],
)
def test_benchmarks_are_named_well(
    values: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    values["evaluation"] |= changes
    with pytest.raises(ValueError, match=message):
        Recipe(**values)
