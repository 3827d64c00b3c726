"""The champion's data, and what of it the cache key of `validate` sees."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from posttrain.data import sources
from posttrain.facts import SourceFacts, sources_digest
from posttrain.profiles import DataDrift
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
    found = champion_data("museum", "")
    assert (found.version, found.profiles, found.note) == (1, {"corpus": PROFILE}, "")


def test_without_a_champion_the_reason_is_told(registry: MlflowClient, tmp_path: Path) -> None:
    assert champion_data("museum", "").note == "museum has no champion yet"
    assert digest("museum", "") == ""


def test_a_champion_without_a_profile_is_named(registry: MlflowClient, tmp_path: Path) -> None:
    add_version(tmp_path / "one", {}, {"corpus": "c" * 64})
    registry.set_registered_model_alias("museum", "champion", "1")
    assert champion_data("museum", "").note == "version 1, the champion, has no profile of it"
    assert digest("museum", "") == ""


def test_a_registry_that_is_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        assert champion_data("museum", "").note.startswith("the registry cannot be reached")
        assert digest("museum", "") == ""
    finally:
        mlflow.set_tracking_uri(before)


def test_asking_creates_no_registry(tmp_path: Path) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/none.db")
    try:
        assert champion_data("museum", "").version is None
    finally:
        mlflow.set_tracking_uri(before)
    assert not (tmp_path / "none.db").exists()


def test_the_key_sees_a_champion_of_other_data_and_stays_when_it_is_of_these(
    registry: MlflowClient, tmp_path: Path
) -> None:
    other = PROFILE.model_copy(update={"num_rows": 7})
    ours = {"corpus": role({"one.jsonl": "a" * 64}, profile=other)}
    here = sources_digest(
        {"corpus": SourceFacts(source="one.jsonl", revision=None, files={"one.jsonl": "a" * 64})}
    )
    promoted(registry, tmp_path / "before", {"zero.jsonl": "0" * 64})
    key = digest("museum", here)
    assert key != "" and champion_data("museum", here).key == key
    drift = DataDrift(champion=1, note="", key=key)
    made = add_version(tmp_path / "ours", ours, {"corpus": "c" * 64}, drift=drift)
    registry.set_registered_model_alias("museum", "champion", str(made.version))
    assert digest("museum", here) == key  # as it was when ours were compared
    assert digest("museum", "0" * 64) not in ("", key)


def test_sources_are_the_same_to_the_recipe_and_to_the_registry(
    registry: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "one"}\n')
    source = Source(source="one.jsonl")
    promoted(registry, tmp_path / "one", sources.facts(source).files)
    assert digest("museum", sources.digest(IngestRecipe(corpus=source))) == ""  # none before it
    assert digest("museum", "0" * 64) != ""
