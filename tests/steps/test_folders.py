from pathlib import Path

import pytest

from posttrain.artifacts import Records
from posttrain.facts import RecordsFacts
from steps._folders import FolderMaterializer


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    work = tmp_path / "work" / "records-1"
    (work / "sub").mkdir(parents=True)
    (work / "corpus.parquet").write_bytes(b"one")
    (work / "sub" / "two").write_bytes(b"two")
    return Records.write(work, "ingest", RecordsFacts(num_rows={"corpus": 1}, sources={}))


def store(path: Path) -> FolderMaterializer:
    path.mkdir()
    return FolderMaterializer(uri=str(path))


def test_a_folder_survives_the_store_and_leaves_no_copy(made: Records, tmp_path: Path) -> None:
    content = made.content_hash()
    materializer = store(tmp_path / "store")
    materializer.save(made)
    assert not made.path.exists()
    assert materializer.compute_content_hash(made) == content
    loaded = store_again(tmp_path / "store").load(Records)
    assert loaded.verify().content_hash() == content
    assert loaded.path == tmp_path / "store"  # read in place


def store_again(path: Path) -> FolderMaterializer:
    return FolderMaterializer(uri=str(path))


def test_a_folder_that_lies_elsewhere_is_left_alone(made: Records, tmp_path: Path) -> None:
    first, second = store(tmp_path / "first"), store(tmp_path / "second")
    first.save(made)
    handed_on = first.load(Records)
    second.save(handed_on)
    assert handed_on.verify().content_hash() == second.load(Records).content_hash()


def test_each_type_loads_as_itself(made: Records, tmp_path: Path) -> None:
    materializer = store(tmp_path / "store")
    materializer.save(made)
    assert type(materializer.load(Records)) is Records


def test_a_damaged_folder_is_not_loaded(made: Records, tmp_path: Path) -> None:
    store(tmp_path / "store").save(made)
    (tmp_path / "store" / "corpus.parquet").write_bytes(b"0ne")
    with pytest.raises(ValueError, match=r"differs from its manifest in \['corpus.parquet'\]"):
        store_again(tmp_path / "store").load(Records)
