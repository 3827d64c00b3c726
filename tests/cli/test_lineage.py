"""`posttrain lineage` as a script sees it: what it prints, and its exit code."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from cli.main import app
from posttrain.facts import RegisteredBase
from posttrain.hashes import sha256
from tests.origins import add_version, role

CLI = CliRunner()


@pytest.fixture
def fed(registry: MlflowClient, tmp_path: Path) -> Path:
    """The file that version 1 was fed with; version 2 stands on version 1."""
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"text": "withdrawn"}\n')
    data = {"corpus": role({"corpus.jsonl": sha256(file)})}
    lineage = {"zenml_run": "weekly-1", "git_commit": "3d46a12"}
    first = add_version(tmp_path / "one", data, {"corpus": "c" * 64}, lineage=lineage)
    origin = RegisteredBase(name="museum", version=1, content_hash=first.content_hash)
    other = {"corpus": role({"new.jsonl": "b" * 64})}
    add_version(tmp_path / "two", other, {"corpus": "d" * 64}, made_from=origin)
    return file


def test_a_version_is_told_with_the_base_that_it_stands_on(fed: Path) -> None:
    done = CLI.invoke(app, ["lineage", "2"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "museum version 2 (challenger)"
    assert "      zenml_run: weekly-1" in lines[lines.index("  base was made from:") :]
    assert json.loads(CLI.invoke(app, ["lineage", "museum@1", "--json"]).output)["version"] == 1


def test_withdrawn_data_of_no_champion_end_well(fed: Path) -> None:
    done = CLI.invoke(app, ["lineage", str(fed)])
    assert done.exit_code == 0, done.output
    assert f"{sha256(fed)} fed 2 version(s)" in done.output
    assert "museum version 2 (challenger): through its base: museum version 1" in done.output


def test_a_champion_that_saw_withdrawn_data_is_an_exit_code(
    fed: Path, registry: MlflowClient
) -> None:
    registry.set_registered_model_alias("museum", "champion", "2")
    done = CLI.invoke(app, ["lineage", sha256(fed)[:12], "--json"])
    assert done.exit_code == 3
    assert json.loads(done.output)["champions"] == ["museum version 2"]


def test_a_champion_that_cannot_tell_is_another(
    fed: Path, registry: MlflowClient, tmp_path: Path
) -> None:
    add_version(tmp_path / "three", {}, {})
    registry.set_registered_model_alias("museum", "champion", "3")
    assert CLI.invoke(app, ["lineage", "f" * 64]).exit_code == 4


def test_a_beginning_that_nobody_has_is_an_error(fed: Path) -> None:
    done = CLI.invoke(app, ["lineage", "f" * 10])
    assert isinstance(done.exception, ValueError)


def test_a_champion_whose_base_was_deleted_cannot_tell(fed: Path, registry: MlflowClient) -> None:
    registry.set_registered_model_alias("museum", "champion", "2")
    registry.delete_model_version("museum", "1")
    done = CLI.invoke(app, ["lineage", str(fed)])
    assert done.exit_code == 4
    assert "lacks sources: museum version 2 (challenger, champion)" in done.output


def test_a_reason_on_the_page_of_a_version_stays_one_line(
    fed: Path, registry: MlflowClient
) -> None:
    registry.set_model_version_tag("museum", "1", "gate_reasons", "all\x1b[2Kholds")
    registry.set_model_version_tag("museum", "1", "lineage.zenml_run", "x\ngate: passed")
    lines = CLI.invoke(app, ["lineage", "1"]).output.splitlines()
    assert "    all[2Kholds" in lines
    assert "  zenml_run: x gate: passed" in lines
