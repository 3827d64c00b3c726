"""k8s/run-file.sh: a recipe's run file for a cluster."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

RECIPES = [file for file in sorted(Path("recipes").glob("*.yaml")) if "tiny_" not in file.stem]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
HERE = {"IMAGES": "registry.test/team", "TAG": "1.2.3"}


def run_file(recipe: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "k8s/run-file.sh", str(recipe)],
        env={"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        | environment,
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


def classes(found: dict[str, Any]) -> set[str]:
    return {
        settings["pod_settings"]["additional_pod_spec_args"]["priority_class_name"]
        for step in found["steps"].values()
        if (settings := step.get("settings", {}).get("orchestrator.kubernetes"))
    }


def test_a_run_by_hand_goes_before_one_by_the_clock(recipe: Path = RECIPES[0]) -> None:
    assert classes(loaded(recipe)) == {"posttrain-interactive"}
    assert classes(loaded(recipe, CRON="0 3 * * 1")) == {"posttrain-scheduled"}
    text = Path("k8s/base/priority-classes.yaml").read_text("utf-8")
    values = {one["metadata"]["name"]: one["value"] for one in yaml.safe_load_all(text)}
    assert values["posttrain-interactive"] > values["posttrain-scheduled"]


def test_the_demo_needs_no_gpu() -> None:
    found = loaded(Path("zenml_config.yaml"), CPU="1")
    assert found["settings"]["docker"]["parent_image"] == "registry.test/team/posttrain-train:1.2.3"
    assert classes(found) == set()


def test_it_takes_a_schedule(recipe: Path = RECIPES[0]) -> None:
    found = loaded(recipe, CRON="0 3 * * 1")
    assert found["schedule"] == {"name": recipe.stem, "cron_expression": "0 3 * * 1"}


@pytest.mark.parametrize("name", HERE)
def test_it_asks_for_what_it_needs(name: str) -> None:
    done = run_file(RECIPES[0], {key: value for key, value in HERE.items() if key != name})
    assert done.returncode != 0
    assert name in done.stderr


def changed(tmp_path: Path, old: str, new: str) -> Path:
    file = tmp_path / "run.yaml"
    text = RECIPES[0].read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    return file


@pytest.mark.parametrize("image", ["train:0.1.0", "train", "train@sha256:00"])
def test_every_tag_is_replaced(tmp_path: Path, image: str) -> None:
    found = loaded(
        changed(tmp_path, "posttrain-train:local", f"elsewhere.test:5000/posttrain-{image}")
    )
    assert found["settings"]["docker"]["parent_image"] == "registry.test/team/posttrain-train:1.2.3"


def test_retry_is_set_however_it_is_written(tmp_path: Path) -> None:
    found = loaded(changed(tmp_path, "retry: &retry null", "retry: &retry ~"))
    assert found["steps"]["sft"]["retry"] == {"max_retries": 2}
    found = loaded(changed(tmp_path, "retry: &retry null", "retry: &retry {max_retries: 5}"))
    assert found["steps"]["sft"]["retry"] == {"max_retries": 5}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("posttrain-train:local", "mine:local", "settings.docker.parent_image: found 'mine:local'"),
        ("posttrain-data:local", "mine", "steps.ingest.settings.docker.parent_image: found 'mine'"),
        ("parent_image: posttrain-train:local", "skip_build: true", "parent_image is missing"),
        ('nvidia.com/gpu: "1"', 'cpu: "8"', "no step asks for a GPU; put k8s/gpu-step.yaml"),
    ],
)
def test_what_the_cluster_could_not_run_is_refused(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    done = run_file(changed(tmp_path, old, new), HERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr and str(tmp_path) in done.stderr


def test_it_is_found_from_another_folder(tmp_path: Path) -> None:
    script = Path("k8s/run-file.sh").resolve()
    changed(tmp_path, "seed: 0", "seed: 3")
    done = subprocess.run(
        ["bash", str(script), "run.yaml"],
        cwd=tmp_path,
        env={"PATH": PATH} | HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert yaml.safe_load(done.stdout)["parameters"]["recipe"]["seed"] == 3
