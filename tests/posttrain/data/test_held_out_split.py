"""A split of a hub data set held out whole, read by the real clients from a hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub import serve

NAME = "me/socratic"
INGEST = """
import json, sys
from posttrain.data.ingest import ingest
from posttrain.recipe.ingest import IngestRecipe
import pyarrow.parquet as pq
records = ingest(IngestRecipe.model_validate_json(sys.argv[1]))
rows = pq.read_table(records.file("instructions")).to_pylist()
said = [(row["id"], row["messages"][1]["content"], row["split"]) for row in rows]
facts = records.facts
print(json.dumps([said, facts.num_rows, facts.sources["instructions"].model_dump()]))
"""


def ingested(tmp_path: Path, **options: Any) -> tuple[Any, str, str]:
    """What the script prints, what it says of an error, and the commit."""
    files = tmp_path / "files"
    files.mkdir()
    for split, num_rows in (("train", 6), ("validation", 4), ("test", 0)):
        rows = [
            {"input": f"{split} {i}", "target": f"{split} {i}?", "split": "odd"}
            for i in range(num_rows)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (files / f"{split}.jsonl").write_text(text, encoding="utf-8")
    fields = {"prompt": "input", "response": "target"}
    source = {"source": NAME, "format": "hub", "fields": fields, **options}
    with serve(tmp_path / "hub") as hub:
        commit = hub.push("datasets", NAME, files)
        done = subprocess.run(
            [sys.executable, "-c", INGEST, json.dumps({"instructions": source})],
            env={**os.environ, **hub.environment(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    lines = done.stdout.splitlines()
    return (json.loads(lines[-1]) if lines else None), done.stderr, commit


def test_the_limit_counts_training_rows_and_the_other_split_is_held_out(tmp_path: Path) -> None:
    found, error, commit = ingested(
        tmp_path, limit=2, held_out_split="validation", held_out_limit=3
    )
    assert found is not None, error
    rows, num_rows, facts = found
    assert rows == [
        ["instructions-1", "train 0?", "train"],
        ["instructions-2", "train 1?", "train"],
        ["instructions-3", "validation 0?", "held_out"],
        ["instructions-4", "validation 1?", "held_out"],
        ["instructions-5", "validation 2?", "held_out"],
    ]
    assert num_rows == {"instructions": 5}
    assert facts == {"source": NAME, "revision": commit, "files": {}, "num_rows": {NAME: 5}}


@pytest.mark.parametrize("split", ["none", "test"])
def test_a_held_out_split_without_rows_is_named(tmp_path: Path, split: str) -> None:
    found, error, _ = ingested(tmp_path, held_out_split=split)
    assert found is None
    assert error.splitlines()[-1].startswith(f"ValueError: {NAME}") and repr(split) in error
