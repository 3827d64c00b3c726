import os
import time
from pathlib import Path

import pytest

from posttrain.artifacts import MANIFEST, Chats, Manifest, Quarantine, Records
from posttrain.facts import QuarantineFacts, RecordsFacts


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


def test_no_byte_of_a_manifest_can_be_flipped_unseen(folder: Records) -> None:
    file = folder.path / MANIFEST
    whole = file.read_bytes()
    for position in range(len(whole)):
        flipped = bytes([whole[position] ^ 1])
        file.write_bytes(whole[:position] + flipped + whole[position + 1 :])
        with pytest.raises(ValueError, match=r"manifest\.json"):
            folder.verify()


def test_a_truncated_manifest_is_refused(folder: Records) -> None:
    file = folder.path / MANIFEST
    whole = file.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not the manifest"):
            folder.verify()
    file.write_bytes(whole[:-1])  # still whole JSON
    with pytest.raises(ValueError, match="its end is cut off"):
        folder.verify()


def test_what_was_verified_is_verified_again_once_it_changes(folder: Records) -> None:
    an_hour_ago = time.time() - 3600
    for file in folder.path.iterdir():
        os.utime(file, (an_hour_ago, an_hour_ago))
    folder.verify()
    (folder.path / "corpus.parquet").write_bytes(b"rowz")
    with pytest.raises(ValueError, match="differs from its manifest"):
        folder.verify()


def test_another_kind_is_refused(folder: Records) -> None:
    with pytest.raises(ValueError, match="holds 'records'; 'chats' is wanted"):
        _ = Chats(folder.path).manifest


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the manifest"):
        _ = Records(tmp_path).facts


def test_facts_of_another_release_are_told_from_ours(folder: Records) -> None:
    manifest = Manifest.sealed("records", "ingest", {"sources": {}}, folder.manifest.files)
    (folder.path / MANIFEST).write_text(manifest.model_dump_json() + "\n")
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
