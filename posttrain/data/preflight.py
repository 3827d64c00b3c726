"""Whether a role's source can be read and has its columns, by its first rows alone."""

from itertools import islice

from posttrain.data import sources
from posttrain.data.ingest import with_columns
from posttrain.data.readers import parts
from posttrain.facts import Role
from posttrain.recipe.ingest import Source
from posttrain.recipe.mistakes import nearest

LOOKED_AT = 100
"""Rows read of each file; of a data set on the hub, no more are fetched."""


def look(role: Role, source: Source) -> tuple[str, list[str]]:
    """Read the first rows of each file of a source.

    Returns:
        What was found, and what no row has that the recipe names for a column that may be absent.

    Raises:
        ValueError: a source is unreadable, empty, or lacks a column that is needed.
    """
    revision = sources.commit(source) if source.format == "hub" else None
    columns: dict[str, None] = {}
    for one in (source, source.held_out):  # a split held out whole is another stream
        if one is not None and not _read(role, one, revision, columns):
            where = f"its split {one.split!r}" if one.format == "hub" else "it"
            raise ValueError(f"{source.name}: {where} holds no rows; ingest.{role} needs them")
    found = f"{source.name}: columns {', '.join(columns)}"
    at = f" at {revision}" if revision else ""
    return f"{found}{at}", _unused(role, source, list(columns))


def _read(role: Role, source: Source, revision: str | None, columns: dict[str, None]) -> int:
    """Collect the columns of the first rows of each file, and count these rows."""
    num_rows = 0
    for name, rows in parts(source, revision):
        for row in with_columns(role, source, name, islice(rows, LOOKED_AT)):
            columns.update(dict.fromkeys(map(str, row)))
            num_rows += 1
    return num_rows


def _unused(role: Role, source: Source, columns: list[str]) -> list[str]:
    return [
        f"ingest.{role}.fields.{name}: none of the first {LOOKED_AT} rows has a column "
        f"{column!r}{nearest(column, columns)}"
        for name, column in source.fields.items()
        if column not in columns
    ]
