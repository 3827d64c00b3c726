"""What the champion was trained on, as far as the registry tells. Imports no training library."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from posttrain.facts import SourceFacts, sources_digest
from posttrain.hashes import sha256_of
from posttrain.profiles import ChampionData
from posttrain.registry.versions import CHAMPION, by_alias, read_evaluation
from posttrain.reports import Evaluation

SOURCES_TAG, PROFILES_TAG, KEY_TAG = "source_digest", "profile_digest", "drift_key"
"""Tags: what a version's data was made from, what it looks like, and the key of its comparison."""


def champion_data(name: str, sources: str) -> ChampionData:
    """Profiles of the data that the champion of `name` was trained on.

    `sources` is the digest of the sources of the data that is compared.
    """
    try:
        champion = _champion(name)
        evaluation = read_evaluation(MlflowClient(), champion) if champion is not None else None
    except (MlflowException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return ChampionData(note=f"the registry cannot be reached ({reason[:200]})")
    if champion is None:
        return ChampionData(note=f"{name} has no champion yet")
    profiles = {
        role: data.profile
        for role, data in (evaluation.data if evaluation is not None else {}).items()
        if data.profile is not None
    }
    note = "" if profiles else f"version {champion.version}, the champion, has no profile of it"
    return ChampionData(
        version=int(champion.version), profiles=profiles, note=note, key=_key(champion, sources)
    )


def digest(name: str, sources: str) -> str:
    """What the comparison of data made from `sources` depends on, for the cache key.

    Empty where there is nothing to compare with. A champion that was trained on data from these
    very sources leaves the key as it was in its own run: nothing can have drifted, and `validate`
    need not run again to say so.
    """
    try:
        champion = _champion(name)
    except (MlflowException, OSError):
        return ""
    return _key(champion, sources) if champion is not None else ""


def _key(champion: ModelVersion, sources: str) -> str:
    same = champion.tags.get(SOURCES_TAG) == sources
    return str(champion.tags.get(KEY_TAG if same else PROFILES_TAG, ""))


def tags(evaluation: Evaluation) -> dict[str, str]:
    """What `digest` looks at."""
    sources = {
        role: SourceFacts(source=data.source, revision=data.revision, files=data.files)
        for role, data in evaluation.data.items()
        if data.source is not None
    }
    profiles = {
        role: data.profile.model_dump()
        for role, data in evaluation.data.items()
        if data.profile is not None
    }
    if not profiles:
        return {}
    return {
        SOURCES_TAG: sources_digest(sources),
        PROFILES_TAG: sha256_of(profiles),
        KEY_TAG: evaluation.drift.key if evaluation.drift is not None else "",
    }


def _champion(name: str) -> ModelVersion | None:
    uri = mlflow.get_tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None  # asking would create an empty one
    return by_alias(MlflowClient(), name, CHAMPION)
