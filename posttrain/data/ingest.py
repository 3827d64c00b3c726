"""Raw records, wherever they lie, as one Parquet file a role in canonical columns.

Streams in batches. Rows with bad values pass: `validate` judges them. Sources that cannot be what
the recipe says (unreadable, no such column, empty) are refused here.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from posttrain.artifacts import Records
from posttrain.data import sources
from posttrain.data.canonical import canonical
from posttrain.data.readers import RawRow, parts
from posttrain.data.rows import ROLES, SCHEMAS, Row, texts
from posttrain.facts import RecordsFacts, Role, SourceFacts
from posttrain.recipe.ingest import IngestRecipe, Source, ways
from posttrain.runtime import Runtime

BATCH_ROWS = 5_000
BATCH_CHARS = 16_000_000
"""A batch is a row group of the Parquet file and what `validate` holds at a time."""


def ingest(recipe: IngestRecipe) -> Records:
    """Bring every role that the recipe names into canonical columns.

    Raises:
        ValueError: a source is unreadable, malformed, empty, or lacks a column.
    """
    folder = Runtime.from_environment().new_folder("records")
    num_rows: dict[str, int] = {}
    found: dict[str, SourceFacts] = {}
    for role in ROLES:
        source: Source | None = getattr(recipe, role)
        if source is None:
            continue
        facts = sources.facts(source)
        read: Counter[str] = Counter()
        rows = canonical_rows(role, source, facts.revision, read)
        num_rows[role] = write_rows(folder / f"{role}.parquet", role, rows)
        if not num_rows[role]:
            raise ValueError(f"{source.name}: holds no rows; ingest.{role} needs at least one")
        found[role] = facts.model_copy(update={"num_rows": dict(sorted(read.items()))})
    return Records.write(folder, "ingest", RecordsFacts(num_rows=num_rows, sources=found))


def canonical_rows(
    role: Role, source: Source, revision: str | None, read: Counter[str] | None = None
) -> Iterator[Row]:
    """Rows of a source up to its limit, then those of the split that is held out whole.

    `read` is told how many each path, glob or data set of the source gave.

    Raises:
        ValueError: that split has no row.
    """
    number = 0
    held_out = source.held_out
    read = Counter() if read is None else read
    for row in _limited(role, source, revision, read):
        number += 1
        yield canonical(role, row, source, number, "train" if held_out else None)
    if held_out is None:
        return
    num_training = number
    for row in _limited(role, held_out, revision, read):
        number += 1
        yield canonical(role, row, source, number, "held_out")
    if number == num_training:
        raise ValueError(f"{source.name}: its split {held_out.split!r} holds no rows to hold out")


def _limited(
    role: Role, source: Source, revision: str | None, read: Counter[str]
) -> Iterator[RawRow]:
    number = 0
    named = {} if source.format == "hub" else sources.named_files(source)
    for name, rows in parts(source, revision):
        remaining = None if source.limit is None else source.limit - number
        for raw in with_columns(role, source, name, islice(rows, remaining)):
            number += 1
            read[named.get(Path(name), name)] += 1
            yield raw


def with_columns(role: Role, source: Source, name: str, rows: Iterable[RawRow]) -> Iterator[RawRow]:
    """Pass the rows of one file on.

    Raises:
        ValueError: at the end, where no row had a column that is needed.
    """
    places = {place: c for c in source.compose for place in source.places(c)}
    columns = [[c for c in way if c not in source.compose] for way in ways(role, source)]
    wanted = {*places, *(source.fields.get(c, c) for way in columns for c in way)}
    seen: set[str] = set()
    first: list[str] | None = None
    for row in rows:
        first = first or [str(column) for column in row]
        if len(seen) < len(wanted):
            seen |= wanted & row.keys()
        yield row
    if first is None:
        return
    for place, column in places.items():
        if place not in seen:
            raise ValueError(
                f"{name}: no column {place!r}, which stands in braces in "
                f"ingest.{role}.compose.{column}{_nearest(place, first)} (found: {first})"
            )
    missing = min(
        ([c for c in way if source.fields.get(c, c) not in seen] for way in columns), key=len
    )
    if missing:
        named = " and ".join(repr(source.fields.get(column, column)) for column in missing)
        raise ValueError(
            f"{name}: no column {named}; ingest.{role}.fields must name it, as in "
            f"`{missing[0]}: its_name_here` (found: {first})"
        )


def _nearest(column: str, found: list[str]) -> str:
    near = difflib.get_close_matches(column, found, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def write_rows(file: Path, role: Role, rows: Iterable[Row]) -> int:
    """Write canonical rows, a row group a batch, and count them."""
    num_rows = 0
    with pq.ParquetWriter(file, SCHEMAS[role], compression="zstd") as writer:
        for batch in batches(role, rows):
            writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMAS[role]))
            num_rows += len(batch)
    return num_rows


def batches(role: Role, rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows, at most `BATCH_ROWS` or about `BATCH_CHARS` characters together."""
    batch: list[Row] = []
    num_chars = 0
    for row in rows:
        batch.append(row)
        num_chars += sum(map(len, texts(role, row))) + len(row["extra"] or "")
        if len(batch) >= BATCH_ROWS or num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch
