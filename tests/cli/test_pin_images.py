"""`posttrain pin-images` against a registry on loopback that speaks OCI's distribution API."""

import hashlib
import json
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.pin_images import Image, files, images

ROOT = Path(__file__).parents[2]
INDEX = "application/vnd.oci.image.index.v1+json"


class Registry:
    """Tags and their manifests; a token reads the repository it was given for."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.host = f"127.0.0.1:{server.server_port}"
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.scopes: dict[str, str] = {}
        self.private: set[str] = set()
        self.lies = False

    def push(self, name: str, tag: str, what: str) -> str:
        """The image as a file writes it, and its digest."""
        manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "annotations": {"is": what}})
        self.manifests[name, tag] = manifest.encode()
        return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"


class Answers(BaseHTTPRequestHandler):
    registry: Registry

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/token":
            query = {key: value[0] for key, value in parse_qs(address.query).items()}
            assert query["service"] == "registry.test"
            token = secrets.token_hex(8)
            self.registry.scopes[token] = query["scope"]
            return self._send(200, json.dumps({"token": token}).encode())
        found = re.fullmatch(r"/v2/(.+)/manifests/(.+)", address.path)
        assert found is not None, address.path
        scope = f"repository:{found[1]}:pull"
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.registry.scopes.get(token) != scope or found[1] in self.registry.private:
            realm = f'Bearer realm="http://{self.registry.host}/token",service="registry.test"'
            challenge = {"WWW-Authenticate": f'{realm},scope="{scope}"'}
            return self._send(401, b"{}", challenge)
        manifest = self.registry.manifests.get((found[1], found[2]))
        if manifest is None or INDEX not in self.headers["Accept"]:
            return self._send(404, b"{}")
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        told = digest[:-1] + "x" if self.registry.lies else digest
        self._send(200, manifest, {"Docker-Content-Digest": told, "Content-Type": INDEX})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Answers.registry = Registry(server)
        threading.Thread(target=server.serve_forever).start()
        yield Answers.registry
        server.shutdown()


def checkout(root: Path, host: str) -> Path:
    for name, text in {
        "docker/data.Dockerfile": f"# slim\nARG BASE={host}/python:3.11\nFROM ${{BASE}} AS pins\n",
        "compose.yaml": f"services:\n  db:\n    image: {host}/team/mysql:8.4  # ours is not\n"
        "  mlflow:\n    image: posttrain-mlflow:local\n",
        "k8s/base/db.yaml": f"spec:\n  containers:\n    - image: {host}/team/mysql:8.4\n",
        "Makefile": f"SLIM := {host}/python:3.11\nall:\n",
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def pin(root: Path) -> str:
    done = CliRunner().invoke(app, ["pin-images", "--root", str(root)])
    if isinstance(done.exception, ValueError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def contents(root: Path) -> dict[str, str]:
    return {file.relative_to(root).as_posix(): file.read_text("utf-8") for file in files(root)}


def test_digests_go_beside_the_tags_and_nothing_else_changes(
    registry: Registry, tmp_path: Path
) -> None:
    python, mysql = registry.push("python", "3.11", "a"), registry.push("team/mysql", "8.4", "b")
    before = contents(checkout(tmp_path, registry.host))
    pin(tmp_path)
    after = contents(tmp_path)
    assert after == {
        name: text.replace("python:3.11", f"python:3.11@{python}").replace(
            "mysql:8.4", f"mysql:8.4@{mysql}"
        )
        for name, text in before.items()
    }
    assert "wrote" not in pin(tmp_path)
    assert contents(tmp_path) == after


def test_a_tag_that_has_moved_is_pinned_anew(registry: Registry, tmp_path: Path) -> None:
    old = registry.push("python", "3.11", "a")
    registry.push("team/mysql", "8.4", "b")
    pin(checkout(tmp_path, registry.host))
    new = registry.push("python", "3.11", "rebuilt")
    pin(tmp_path)
    dockerfile = (tmp_path / "docker/data.Dockerfile").read_text("utf-8")
    assert old not in dockerfile
    assert dockerfile.count(f"python:3.11@{new}\n") == 1


def test_what_cannot_be_pinned_is_named_and_every_file_stays(
    registry: Registry, tmp_path: Path
) -> None:
    before = contents(checkout(tmp_path, registry.host))
    registry.push("python", "3.11", "a")
    with pytest.raises(ValueError, match=r"team/mysql has no tag '8.4'; name one that exists"):
        pin(tmp_path)
    registry.push("team/mysql", "8.4", "b")
    registry.private = {"team/mysql"}
    with pytest.raises(ValueError, match=r"team/mysql is not for everyone"):
        pin(tmp_path)
    registry.private, registry.lies = set(), True
    with pytest.raises(ValueError, match=r"says sha256:\w+ and sends sha256:\w+"):
        pin(tmp_path)
    assert contents(tmp_path) == before


def test_a_registry_out_of_reach_is_said_so(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    before = contents(checkout(tmp_path, host))
    with pytest.raises(ValueError, match=rf"data.Dockerfile: {host}/python:3.11: no answer"):
        pin(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("postgres", Image("docker.io", "library/postgres", "latest")),
        ("postgres:17@sha256:00", Image("docker.io", "library/postgres", "17")),
        ("nvidia/cuda:13.0", Image("docker.io", "nvidia/cuda", "13.0")),
        ("ghcr.io/a/b/c:1", Image("ghcr.io", "a/b/c", "1")),
        ("localhost:5000/x", Image("localhost:5000", "x", "latest")),
    ],
)
def test_an_image_is_read_as_docker_reads_it(written: str, image: Image) -> None:
    assert Image.parse(written) == image


def test_the_hub_is_asked_by_the_name_of_its_api() -> None:
    url = "https://registry-1.docker.io/v2/library/postgres/manifests/17"
    assert Image.parse("postgres:17").url == url


def test_every_foreign_image_of_the_repository_is_found_and_has_a_tag() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in files(ROOT)}
    found = {Image.parse(image) for text in texts.values() for image in images(text)}
    names = {image.repository.removeprefix("library/") for image in found}
    assert names >= {"python", "nvidia/cuda", "postgres", "mysql", "zenmldocker/zenml-server"}
    assert [image for image in found if image.tag == "latest"] == []
    assert [
        file for file in ROOT.glob("docker/*.Dockerfile") if not list(images(texts[file]))
    ] == []
