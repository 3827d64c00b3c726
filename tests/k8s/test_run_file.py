"""k8s/run-file.sh: a recipe's run file for a cluster."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

RECIPES = [file for file in sorted(Path("recipes").glob("*.yaml")) if "tiny_" not in file.stem]
HERE = {"IMAGES": "registry.test/team", "TAG": "1.2.3"}


def run_file(recipe: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "k8s/run-file.sh", str(recipe)],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded(recipe: Path, **environment: str) -> dict[str, Any]:
    done = run_file(recipe, HERE | environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_it_changes_images_and_retry_alone(recipe: Path) -> None:
    before, found = yaml.safe_load(recipe.read_text("utf-8")), loaded(recipe)
    assert found["parameters"] == before["parameters"]
    for block in (found, *found["steps"].values()):
        if "docker" in block.get("settings", {}):
            image = block["settings"]["docker"]["parent_image"]
            assert image.startswith("registry.test/team/posttrain-") and image.endswith(":1.2.3")
    again = {name for name, step in found["steps"].items() if step.get("retry")}
    gpu = {
        n for n, s in found["steps"].items() if "orchestrator.kubernetes" in s.get("settings", {})
    }
    assert again == gpu >= {"sft", "evaluate"}
    assert "schedule" not in found


def test_it_takes_a_schedule(recipe: Path = RECIPES[0]) -> None:
    found = loaded(recipe, CRON="0 3 * * 1")
    assert found["schedule"] == {"name": recipe.stem, "cron_expression": "0 3 * * 1"}


@pytest.mark.parametrize("name", HERE)
def test_it_asks_for_what_it_needs(name: str) -> None:
    done = run_file(RECIPES[0], {key: value for key, value in HERE.items() if key != name})
    assert done.returncode != 0
    assert name in done.stderr
