"""`posttrain pin` and `posttrain check` against a hub on loopback, weights never downloaded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from cli.main import app
from posttrain.artifacts import BaseModel
from tests.cli.runs import instructions, model_folder, recipe, write
from tests.hub import Hub, serve

RUN = """
import json, os, sys
from zenml.utils import source_utils
source_utils.set_custom_source_root(os.getcwd())  # as an entry point's file does
from typer.testing import CliRunner
from cli.main import app
told = []
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words)
    refused = isinstance(done.exception, ValueError)
    told.append([done.exit_code, str(done.exception) if refused else done.output])
print(json.dumps(told))
"""


@pytest.fixture
def hub(base: BaseModel, tmp_path: Path) -> Iterator[Hub]:
    data = tmp_path / "data"
    data.mkdir()
    instructions(data)
    with serve(tmp_path / "served") as hub:
        hub.push("models", "me/tiny", model_folder(base, tmp_path / "model"))
        hub.push("datasets", "me/qa", data)
        yield hub


def posttrain(hub: Hub, home: Path, *calls: tuple[str, ...]) -> list[tuple[int, str]]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(calls)],
        env={**os.environ, **hub.environment(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, text) for code, text in json.loads(done.stdout.splitlines()[-1])]


def run_file(tmp_path: Path) -> Path:
    run: dict[str, Any] = recipe("me/qa", "me/tiny")
    run["ingest"]["instructions"]["format"] = "hub"
    return write(tmp_path / "run.yaml", run)


@pytest.mark.slow
def test_what_is_pinned_is_checked_and_no_weight_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    file = run_file(tmp_path)
    before = file.read_text()
    pin, check = ("pin", "-c", str(file)), ("check", "-c", str(file), "--gpu-gib", "80")
    first, second, checked = posttrain(hub, tmp_path / "home", pin, pin, check)
    (model,) = hub.repositories["models", "me/tiny"].commits
    (data,) = hub.repositories["datasets", "me/qa"].commits
    after = yaml.safe_load(file.read_text())["parameters"]["recipe"]
    assert after["ingest"]["instructions"]["revision"] == data
    assert after["base_model"]["revision"] == model
    assert len(after["base_model"]["fingerprint"]) == 64
    kept = [line for line in file.read_text().splitlines() if line in before.splitlines()]
    assert kept == before.splitlines()
    assert (first[0], second) == (0, (0, f"{file}: nothing to pin\n"))
    assert f"base_model.revision: absent -> {model}" in first[1]
    assert checked[0] == 0, checked[1]
    assert f"me/tiny at {model}, llama" in checked[1]
    assert f"me/qa: columns question, answer, topic at {data}" in checked[1]
    files = [file.name for file in (tmp_path / "home").rglob("*.safetensors")]
    assert files == []


@pytest.mark.slow
def test_another_base_than_the_pinned_one_is_refused(
    hub: Hub, base: BaseModel, tmp_path: Path
) -> None:
    file = run_file(tmp_path)
    run = yaml.safe_load(file.read_text())
    run["parameters"]["recipe"]["base_model"]["fingerprint"] = "0" * 64
    file.write_text(yaml.safe_dump(run))
    ((code, text),) = posttrain(hub, tmp_path / "home", ("check", "-c", str(file)))
    assert code == 1
    (sentence,) = [line for line in text.splitlines() if "fingerprint" in line]
    assert f"base_model.fingerprint is {'0' * 64}, and that of me/tiny is " in sentence
    assert "write the new one by `posttrain pin`" in sentence


@pytest.mark.slow
def test_a_hub_out_of_reach_leaves_the_file_as_it_is(hub: Hub, tmp_path: Path) -> None:
    file = run_file(tmp_path)
    before = file.read_bytes()
    hub.endpoint = "http://127.0.0.1:9"
    ((code, text),) = posttrain(hub, tmp_path / "home", ("pin", "-c", str(file)))
    assert (code, file.read_bytes()) == (1, before)
    assert "me/tiny@main cannot be read from http://127.0.0.1:9" in text


def test_a_folder_is_pinned_by_its_fingerprint(base: BaseModel, tmp_path: Path) -> None:
    folder = model_folder(base, tmp_path / "model")
    file = write(tmp_path / "run.yaml", recipe(str(instructions(tmp_path)), str(folder)))
    done = CliRunner().invoke(app, ["pin", "-c", str(file)])
    assert done.exit_code == 0, done.output
    found = yaml.safe_load(file.read_text())["parameters"]["recipe"]["base_model"]
    assert found == {"source": str(folder), "fingerprint": base.facts.fingerprint}


def test_an_alias_is_pinned_to_its_version(registry: MlflowClient, tmp_path: Path) -> None:
    registry.create_registered_model("guide")
    version = registry.create_model_version("guide", source=str(tmp_path))
    registry.set_registered_model_alias("guide", "champion", version.version)
    run = recipe(str(instructions(tmp_path)), "registry:guide@champion")
    file = write(tmp_path / "run.yaml", run)
    done = CliRunner().invoke(app, ["pin", "-c", str(file)])
    assert done.exit_code == 0, done.exception
    found = yaml.safe_load(file.read_text())["parameters"]["recipe"]["base_model"]
    assert found == {"source": f"registry:guide@{version.version}"}


def test_a_recipe_that_cannot_be_read_is_not_pinned(tmp_path: Path) -> None:
    run = recipe(str(instructions(tmp_path)), "me/tiny")
    run["sft"]["batch_size"] = 0
    done = CliRunner().invoke(app, ["pin", "-c", str(write(tmp_path / "run.yaml", run))])
    assert "sft.batch_size: found 0; it must be greater than 0" in str(done.exception)
