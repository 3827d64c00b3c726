"""A hub on loopback: the real clients resolve a revision, list the files and stream them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "1234567890abcdef1234567890abcdef12345678"
CONTENT = "".join(json.dumps({"body": f"글 {number}"}) + "\n" for number in range(5)).encode()
FILE = {"type": "file", "path": "train.jsonl", "size": len(CONTENT), "oid": "0" * 40}

INGEST = """
import json, sys
from posttrain.data.ingest import ingest
from posttrain.recipe.ingest import IngestRecipe
import pyarrow.parquet as pq
records = ingest(IngestRecipe.model_validate_json(sys.argv[1]))
texts = pq.read_table(records.file("corpus"))["text"].to_pylist()
print(json.dumps([texts, records.facts.model_dump()["sources"]["corpus"]]))
"""


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        info = {"id": "me/toy", "sha": COMMIT, "siblings": [{"rfilename": FILE["path"]}]}
        if path in (
            "api/datasets/me/toy",
            *(f"api/datasets/me/toy/revision/{r}" for r in REVISIONS),
        ):
            self.answer(json.dumps({**info, "private": False, "tags": []}).encode())
        elif path.startswith(f"api/datasets/me/toy/tree/{COMMIT}"):
            self.answer(json.dumps([FILE]).encode())
        elif path == f"datasets/me/toy/resolve/{COMMIT}/train.jsonl":
            self.answer(CONTENT)
        else:
            self.answer(b"{}", status=404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        paths = asked.get("paths", [])
        found = [FILE] if paths == ["train.jsonl"] or "train.jsonl" in paths else []
        self.answer(json.dumps(found).encode())

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"0"')
        if status == 404:
            is_file = "/resolve/" in self.path
            self.send_header("X-Error-Code", "EntryNotFound" if is_file else "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


REVISIONS = ("main", "v1", COMMIT)


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def run(
    endpoint: str, home: Path, **source: str | int | dict[str, str]
) -> subprocess.CompletedProcess[str]:
    recipe = {"corpus": {"format": "hub", "fields": {"text": "body"}, **source}}
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-c", INGEST, json.dumps(recipe)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_hub_data_set_is_streamed_at_its_resolved_commit(hub: str, tmp_path: Path) -> None:
    done = run(hub, tmp_path, source="me/toy", revision="v1", limit=3)
    assert done.returncode == 0, done.stderr
    texts, facts = json.loads(done.stdout.splitlines()[-1])
    assert texts == ["글 0", "글 1", "글 2"]
    assert facts == {"source": "me/toy", "revision": COMMIT, "files": {}}


def test_what_the_hub_does_not_know_is_named(hub: str, tmp_path: Path) -> None:
    for source in ({"source": "me/none"}, {"source": "me/toy", "revision": "v9"}):
        done = run(hub, tmp_path, **source)
        error = done.stderr.splitlines()[-1]
        assert error.startswith("ValueError") and "revision" in error, done.stderr
