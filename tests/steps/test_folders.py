import shutil
from pathlib import Path

import pytest

from posttrain.artifacts import Records
from posttrain.facts import RecordsFacts
from steps import _folders
from steps._folders import FolderMaterializer
from tests.remote_store import MEMORY, remote_store


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


@pytest.fixture
def uri(made: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the folder lies, in a store that is no folder here."""
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))
    found = f"{remote_store().path}/records/7"
    FolderMaterializer(uri=found).save(made)
    return found


def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "artifacts" / "7"


def test_a_remote_folder_is_downloaded_once(
    made: Records, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FolderMaterializer(uri=uri).load(Records)
    assert first.path == cached(tmp_path) and (first.path / "sub" / "two").read_bytes() == b"two"
    MEMORY.rm(uri, recursive=True)
    assert FolderMaterializer(uri=uri).load(Records).content_hash() == first.content_hash()
    assert [path.name for path in first.path.parent.iterdir()] == ["7"]  # nothing half done


@pytest.mark.parametrize("damage", ["a file", "a file's absence", "no manifest", "an empty folder"])
def test_a_damaged_copy_is_downloaded_anew(uri: str, tmp_path: Path, damage: str) -> None:
    FolderMaterializer(uri=uri).load(Records)
    if damage == "a file":
        (cached(tmp_path) / "corpus.parquet").write_bytes(b"0ne")
    elif damage == "a file's absence":
        (cached(tmp_path) / "sub" / "two").unlink()
    elif damage == "no manifest":
        (cached(tmp_path) / "manifest.json").unlink()
    else:
        shutil.rmtree(cached(tmp_path))
        cached(tmp_path).mkdir()
    loaded = FolderMaterializer(uri=uri).load(Records)
    assert (loaded.path / "corpus.parquet").read_bytes() == b"one"
    assert (loaded.path / "sub" / "two").read_bytes() == b"two"
    assert [path.name for path in loaded.path.parent.iterdir()] == ["7"]


def test_a_folder_that_the_store_itself_damaged_is_refused(uri: str, tmp_path: Path) -> None:
    MEMORY.pipe_file(f"{uri}/corpus.parquet", b"0ne")
    with pytest.raises(ValueError, match=rf"{uri}: .*differs from its manifest"):
        FolderMaterializer(uri=uri).load(Records)
    assert list(cached(tmp_path).parent.iterdir()) == []


@pytest.mark.parametrize("theirs_is_whole", [True, False])
def test_two_runs_may_download_one_folder(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs_is_whole: bool
) -> None:
    ours = _folders._download

    def slowly(uri: str, target: Path) -> None:
        """Another run, which began later, is done before."""
        ours(uri, target)
        ours(uri, cached(tmp_path))
        if not theirs_is_whole:
            (cached(tmp_path) / "corpus.parquet").write_bytes(b"0ne")

    monkeypatch.setattr(_folders, "_download", slowly)
    loaded = FolderMaterializer(uri=uri).load(Records)
    assert (loaded.path / "corpus.parquet").read_bytes() == b"one"
    assert [path.name for path in loaded.path.parent.iterdir()] == ["7"]
