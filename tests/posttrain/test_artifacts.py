import json
from pathlib import Path

import pytest

from posttrain.artifacts import MANIFEST, Chats, Quarantine, QuarantineFacts, Records, RecordsFacts


@pytest.fixture
def folder(tmp_path: Path) -> Records:
    path = tmp_path / "records"
    path.mkdir()
    (path / "corpus.parquet").write_bytes(b"rows")
    (path / "history.jsonl").write_bytes(b"curve")
    return Records.write(path, "ingest", RecordsFacts(num_rows={"corpus": 1}, sources={}))


def test_a_flipped_byte_is_named(folder: Records) -> None:
    (folder.path / "corpus.parquet").write_bytes(b"rowz")
    with pytest.raises(ValueError, match=r"differs from its manifest in \['corpus.parquet'\]"):
        folder.verify()


def test_a_file_too_many_is_named(folder: Records) -> None:
    (folder.path / "extra").touch()
    with pytest.raises(ValueError, match=r"\['extra'\]"):
        folder.verify()


def test_another_kind_is_refused(folder: Records) -> None:
    with pytest.raises(ValueError, match="holds 'records'; 'chats' is wanted"):
        _ = Chats(folder.path).manifest


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a manifest"):
        _ = Records(tmp_path).facts


def test_facts_of_another_release_are_told_from_ours(folder: Records) -> None:
    manifest = json.loads((folder.path / MANIFEST).read_bytes())
    del manifest["facts"]["num_rows"]
    (folder.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json: its facts .* differ: num_rows\); run"):
        _ = folder.facts


def test_content_is_what_counts_and_not_the_curve(folder: Records) -> None:
    before = folder.content_hash()
    (folder.path / "history.jsonl").write_bytes(b"another run's timings")
    assert Records.write(folder.path, "ingest", folder.facts).content_hash() == before
    (folder.path / "corpus.parquet").write_bytes(b"other rows")
    assert Records.write(folder.path, "ingest", folder.facts).content_hash() != before


def test_equal_files_of_another_kind_differ(folder: Records) -> None:
    before = folder.content_hash()
    other = Quarantine.write(folder.path, "ingest", QuarantineFacts(num_rows={}))
    assert other.content_hash() != before
