"""Records from a hub: the real clients resolve a revision, list the files and stream them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub, serve
from tests.stand_ins import NEWS, SOCRATIC, write_news, write_socratic

INGEST = """
import json, sys
from posttrain.data.ingest import ingest
from posttrain.recipe.ingest import IngestRecipe
import pyarrow.parquet as pq
records = ingest(IngestRecipe.model_validate_json(sys.argv[1]))
rows = pq.read_table(records.file("corpus"))["text"].to_pylist()
print(json.dumps([rows, records.facts.model_dump()["sources"]["corpus"]]))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    with serve(folder / "served") as hub:
        for name, text in (("old", "글"), ("new", "새 글")):
            (folder / name).mkdir()
            rows = [json.dumps({"body": f"{text} {number}"}) + "\n" for number in range(5)]
            (folder / name / "train.jsonl").write_text("".join(rows), encoding="utf-8")
        hub.push("datasets", "me/toy", folder / "old", tag="v1")
        hub.push("datasets", "me/toy", folder / "new")
        hub.push("datasets", "me/shut", folder / "old", token="secret")
        for id, write in ((SOCRATIC, write_socratic), (NEWS, write_news)):
            write(folder / id)
            hub.push("datasets", id, folder / id)
        yield hub


def run(hub: Hub, home: Path, **source: Any) -> subprocess.CompletedProcess[str]:
    recipe = {"corpus": {"format": "hub", "fields": {"text": "body"}, **source}}
    return hub.run(home, INGEST, json.dumps(recipe))


def ingested(hub: Hub, home: Path, **source: Any) -> tuple[list[str], dict[str, Any]]:
    done = run(hub, home, **source)
    assert done.returncode == 0, done.stderr
    texts, facts = json.loads(done.stdout.splitlines()[-1])
    return texts, facts


def test_a_data_set_is_streamed_at_its_resolved_commit(hub: Hub, tmp_path: Path) -> None:
    old, _ = hub.repositories["datasets", "me/toy"].commits
    hub.requests.clear()
    texts, facts = ingested(hub, tmp_path, source="me/toy", revision="v1", limit=3)
    assert texts == ["글 0", "글 1", "글 2"]
    assert facts == {
        "source": "me/toy",
        "revision": old,
        "files": {},
        "num_rows": {"me/toy": 3},
    }
    resolving, *reading = hub.requests
    assert resolving.endswith("/revision/v1")
    assert reading and all(old in request for request in reading)


@pytest.mark.parametrize(("id", "column"), [(SOCRATIC, "target"), (NEWS, "document")])
def test_a_split_of_the_recipes_data_sets_is_read(
    hub: Hub, tmp_path: Path, id: str, column: str
) -> None:
    source = {"source": id, "split": "validation", "fields": {"text": column}}
    texts, facts = ingested(hub, tmp_path, **source)
    assert len(texts) == 24
    assert [facts["revision"]] == list(hub.repositories["datasets", id].commits)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"source": "me/none"}, "the hub has no data set 'me/none' (revision 'main')"),
        ({"source": "me/toy", "revision": "v9"}, "me/toy has no revision 'v9': set `revision` to"),
        ({"source": "me/toy", "split": "dev"}, "split 'dev'): Bad split: dev"),
        ({"source": "me/toy", "subset": "sub"}, "subset 'sub', split 'train'): BuilderConfig"),
        ({"source": "me/shut"}, "HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_give_is_named(
    hub: Hub, tmp_path: Path, source: dict[str, str], said: str
) -> None:
    done = run(hub, tmp_path, **source)
    assert done.returncode != 0
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ValueError") and said in error, done.stderr
