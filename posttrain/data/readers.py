"""Raw rows from files and from the hub, one at a time: memory does not grow with the source.

A file that cannot be read is the user's to mend: errors name the file, the row and the change.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from posttrain.data.hub_card import check_card
from posttrain.data.sources import files_of
from posttrain.recipe.ingest import Source

RawRow = dict[str, Any]
_SUFFIXES = {
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"},
    **{".parquet": "parquet", ".txt": "txt"},
}
_CHUNK = 1 << 20
_READ_ROWS = 1_000
_BEYOND = "(beyond the header)"


def parts(source: Source, revision: str | None) -> Iterator[tuple[str, Iterator[RawRow]]]:
    """Each file of a source, or the hub data set at a commit, with its rows."""
    if source.format == "hub":
        yield source.name, hub_rows(source, revision)
        return
    for file in files_of(source):
        yield file.as_posix(), file_rows(file, source)


def file_rows(file: Path, source: Source) -> Iterator[RawRow]:
    """Rows of one file.

    Raises:
        ValueError: unknown suffix, unreadable bytes, or a malformed row.
    """
    kind = _SUFFIXES.get(file.suffix.lower()) if source.format == "auto" else source.format
    if kind is None:
        raise ValueError(
            f"{file}: nothing is known of the suffix {file.suffix!r}; set `format` to one of "
            f"{sorted(set(_SUFFIXES.values()))}"
        )
    if kind == "parquet":
        return parquet_rows(file)
    readers: dict[str, Callable[[Path, IO[str]], Iterator[RawRow]]] = {
        "jsonl": jsonl_rows,
        "json": json_rows,
        "txt": lambda _, stream: txt_rows(stream),
        "csv": lambda path, stream: csv_rows(path, stream, source.delimiter),
    }
    return _decoded(file, readers[kind])


def _decoded(file: Path, reader: Callable[[Path, IO[str]], Iterator[RawRow]]) -> Iterator[RawRow]:
    try:
        # newline="": csv wants it; \r stays for the readers, which strip it
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from reader(file, stream)
    except UnicodeDecodeError as error:
        found = error.object[error.start : error.start + 4].hex(" ")
        raise ValueError(
            f"{file}: is not UTF-8 (found bytes {found}); Korean Windows and Excel often write "
            f"CP949: iconv -f CP949 -t UTF-8 {file.name} > utf8-{file.name}"
        ) from error
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from error


def _object(value: Any, where: str) -> RawRow:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: an object such as {{...}} is wanted, found {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", type(None): "null"}.get(type(value), "a number")


def jsonl_rows(file: Path, stream: Iterable[str]) -> Iterator[RawRow]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in enumerate(stream, 1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{file}: line {number} is no JSON ({error}); found {line.strip()[:60]!r}"
                ) from error
            yield _object(value, f"{file}: line {number}")


def json_rows(file: Path, stream: IO[str]) -> Iterator[RawRow]:
    """The objects of one JSON list, decoded as they are read."""
    decoder = json.JSONDecoder()
    text = stream.read(_CHUNK).lstrip()
    if not text.startswith("["):
        raise ValueError(
            f"{file}: a list of objects is wanted, found {text[:40]!r}; set `format: jsonl` for an "
            "object a line"
        )
    text, number, wanted = text[1:], 0, _CHUNK
    while True:
        text = text.lstrip().removeprefix(",").lstrip() if number else text.lstrip()
        if text.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError) as error:
            more = stream.read(wanted)
            if not more or isinstance(error, RecursionError):
                raise ValueError(
                    f"{file}: item {number + 1} is no JSON ({error}); found {text[:60]!r}"
                ) from error
            text, wanted = text + more, wanted * 2  # a huge item is not parsed over and over
            continue
        number, text, wanted = number + 1, text[end:], _CHUNK
        yield _object(value, f"{file}: item {number}")


def csv_rows(file: Path, stream: Iterable[str], delimiter: str) -> Iterator[RawRow]:
    """Rows of a csv file with a header; values are strings, or None where the line is short."""
    csv.field_size_limit(1 << 30)  # the default, 128 kB, is less than a long document
    reader = csv.DictReader(stream, delimiter=delimiter, restkey=_BEYOND, strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(
            f"{file}: is malformed after line {reader.line_num} ({error}); check the quotes "
            f"and `delimiter` (now {delimiter!r})"
        ) from error


def txt_rows(stream: Iterable[str]) -> Iterator[RawRow]:
    """One row a line, in the column `text`; blank lines are passed over."""
    for line in stream:
        if line.strip():
            yield {"text": line.rstrip("\r\n")}


def parquet_rows(file: Path) -> Iterator[RawRow]:
    """Rows of a Parquet file."""
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_READ_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: is no readable Parquet file: {error}") from error


def hub_rows(source: Source, revision: str | None) -> Iterator[RawRow]:
    """Rows of a hub data set at a commit, streamed; no code of the data set is run.

    Raises:
        ValueError: subset, split or files are not there, or cannot be read.
    """
    try:
        check_card(source.name, revision)
        stream = datasets.load_dataset(
            source.name, source.subset, split=source.split, revision=revision, streaming=True
        )
        yield from stream
    except Exception as error:  # datasets' loaders share no base class of errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{source.name}: cannot be read at {revision} (subset {source.subset!r}, split "
            f"{source.split!r}): {reason.rstrip('.')}; check `subset` and `split`, and "
            "HF_TOKEN where the data set is gated or private"
        ) from error
