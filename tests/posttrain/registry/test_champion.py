"""The champion's data, and what of it the cache key of `validate` sees."""

import contextlib
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from posttrain.data import sources
from posttrain.recipe.ingest import IngestRecipe, Source
from posttrain.registry.champion import champion_data, digest
from tests.origins import PROFILE, add_version, role


def promoted(registry: MlflowClient, folder: Path, files: dict[str, str]) -> None:
    made = add_version(folder, {"corpus": role(files)}, {"corpus": "c" * 64})
    registry.set_registered_model_alias("museum", "champion", str(made.version))


def test_the_champion_tells_what_its_data_looked_like(
    registry: MlflowClient, tmp_path: Path
) -> None:
    promoted(registry, tmp_path / "one", {"one.jsonl": "a" * 64})
    found = champion_data("museum")
    assert (found.version, found.profiles, found.note) == (1, {"corpus": PROFILE}, "")


def test_without_a_champion_the_reason_is_told(registry: MlflowClient, tmp_path: Path) -> None:
    assert champion_data("museum").note == "museum has no champion yet"
    assert digest("museum", "") == ""


def test_a_champion_without_a_profile_is_named(registry: MlflowClient, tmp_path: Path) -> None:
    add_version(tmp_path / "one", {}, {"corpus": "c" * 64})
    registry.set_registered_model_alias("museum", "champion", "1")
    assert champion_data("museum").note == "version 1, the champion, has no profile of it"
    assert digest("museum", "") == ""


def test_a_registry_that_is_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        assert champion_data("museum").note.startswith("the registry cannot be reached")
        assert digest("museum", "") == ""
    finally:
        mlflow.set_tracking_uri(before)


def test_asking_creates_no_registry(tmp_path: Path) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/none.db")
    try:
        assert champion_data("museum").version is None
    finally:
        mlflow.set_tracking_uri(before)
    assert not (tmp_path / "none.db").exists()


def test_the_key_sees_another_champion_only_where_its_data_are_others(
    registry: MlflowClient, tmp_path: Path
) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"text": "one"}\n')
    with contextlib.chdir(tmp_path):
        source = Source(source="one.jsonl")
        here = sources.digest(IngestRecipe(corpus=source))
        files = sources.facts(source).files
    promoted(registry, tmp_path / "one", files)
    assert digest("museum", here) == ""  # made from these very sources
    assert digest("museum", "0" * 64) != ""
    promoted(registry, tmp_path / "two", {"two.jsonl": "b" * 64})
    assert digest("museum", here) != ""
