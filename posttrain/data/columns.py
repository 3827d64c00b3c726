"""Parquet in batches: what every stage on rows reads and writes with."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("learn", pa.bool_())])
"""One turn; `learn` is false for an assistant's turn that is context alone."""


def batches(file: Path, num_rows: int = 10_000) -> Iterator[list[Row]]:
    """Rows of a Parquet file, some at a time."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=num_rows):
            yield batch.to_pylist()


def write(file: Path, schema: pa.Schema, chunks: Iterable[list[Row]]) -> int:
    """Write chunks of rows as they come, and count the rows."""
    num_rows = 0
    with pq.ParquetWriter(file, schema) as writer:
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            num_rows += len(rows)
    return num_rows
