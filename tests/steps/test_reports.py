from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from zenml.artifact_stores import LocalArtifactStore, LocalArtifactStoreConfig
from zenml.enums import StackComponentType
from zenml.materializers.base_materializer import BaseMaterializer
from zenml.materializers.materializer_registry import materializer_registry
from zenml.types import HTMLString

from posttrain.decisions import RegisteredVersion
from steps._reports import SUMS
from tests.remote_store import MEMORY, remote_store

VERSION = RegisteredVersion(name="ferries", version=3, content_hash="ab", is_new=True)
SAVED = [VERSION, HTMLString("<p>Promoted: 예</p>")]


def store(data: Any, folder: Path) -> BaseMaterializer:
    """By the materializer that ZenML chooses for it."""
    local = LocalArtifactStore(
        name="local",
        id=uuid4(),
        config=LocalArtifactStoreConfig(path=str(folder)),
        flavor="local",
        type=StackComponentType.ARTIFACT_STORE,
        user=None,
        created=datetime.now(UTC),
        updated=datetime.now(UTC),
    )
    return materializer_registry[type(data)](uri=str(folder), artifact_store=local)


@pytest.mark.parametrize("data", SAVED, ids=lambda data: type(data).__name__)
def test_what_was_saved_is_loaded(data: Any, tmp_path: Path) -> None:
    store(data, tmp_path).save(data)
    assert store(data, tmp_path).load(type(data)) == data


def flips(file: Path) -> list[bytes]:
    whole = file.read_bytes()
    return [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole) - 1)
    ]


def truncations(file: Path) -> list[bytes]:
    whole = file.read_bytes()
    return [whole[:length] for length in (0, 1, len(whole) // 2)]


@pytest.mark.parametrize("damage", [flips, truncations])
@pytest.mark.parametrize("data", SAVED, ids=lambda data: type(data).__name__)
def test_no_damage_passes_unseen(
    data: Any, damage: Callable[[Path], list[bytes]], tmp_path: Path
) -> None:
    materializer = store(data, tmp_path)
    materializer.save(data)
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert len(files) == 2
    for file in files:
        whole = file.read_bytes()
        for damaged in damage(file):
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=file.name):
                materializer.load(type(data))
        file.write_bytes(whole)
    assert materializer.load(type(data)) == data


def test_a_result_without_its_hash_is_refused(tmp_path: Path) -> None:
    materializer = store(VERSION, tmp_path)
    materializer.save(VERSION)
    (tmp_path / SUMS).unlink()
    with pytest.raises(ValueError, match=SUMS):
        materializer.load(RegisteredVersion)


@pytest.mark.parametrize("data", SAVED, ids=lambda data: type(data).__name__)
def test_a_remote_store_serves_as_well(data: Any) -> None:
    remote = remote_store()

    def again() -> BaseMaterializer:
        return materializer_registry[type(data)](
            uri=f"{remote.path}/report/7", artifact_store=remote
        )

    MEMORY.makedirs(again().uri)  # as ZenML does
    again().save(data)
    assert again().load(type(data)) == data
    (name,) = {str(one) for one in remote.listdir(again().uri)} - {SUMS}
    MEMORY.pipe_file(f"{again().uri}/{name}", b"0")
    with pytest.raises(ValueError, match=name):
        again().load(type(data))
