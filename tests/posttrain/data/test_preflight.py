"""The first rows of a source tell whether a run can read it."""

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.data import preflight
from posttrain.recipe.ingest import Source


def file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_is_there_is_named(tmp_path: Path) -> None:
    path = file(tmp_path, {"text": "a"}, {"text": "b", "note": "c"})
    found, unused = preflight.look("corpus", Source(source=str(path)))
    assert (found, unused) == (f"{path}: columns text, note", [])


def test_no_more_than_the_first_rows_are_read(tmp_path: Path) -> None:
    path = file(tmp_path, *[{"text": "a"}] * preflight.LOOKED_AT)
    with path.open("a") as stream:
        stream.write("no JSON\n")
    preflight.look("corpus", Source(source=str(path)))


def test_a_column_that_is_needed_is_an_error_with_what_was_found(tmp_path: Path) -> None:
    path = file(tmp_path, {"prompt": "a", "chozen": "b", "rejected": "c"})
    message = r"no column 'chosen'; ingest.preferences.fields must name it.*'chozen'"
    with pytest.raises(ValueError, match=message):
        preflight.look("preferences", Source(source=str(path)))


def test_a_column_in_a_composed_text_is_looked_for_too(tmp_path: Path) -> None:
    path = file(tmp_path, {"document": "a"})
    source = Source(source=str(path), compose={"text": "News: {documnet}"})
    with pytest.raises(ValueError, match=r"no column 'documnet'.*did you mean 'document'"):
        preflight.look("corpus", source)


def test_a_column_that_may_be_absent_is_told(tmp_path: Path) -> None:
    path = file(tmp_path, {"text": "a", "split": "train"})
    _, unused = preflight.look("corpus", Source(source=str(path), fields={"split": "splitt"}))
    assert unused == [
        "ingest.corpus.fields.split: none of the first 100 rows has a column 'splitt'; did you "
        "mean 'split'?"
    ]


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it holds no rows"):
        preflight.look("corpus", Source(source=str(file(tmp_path))))
