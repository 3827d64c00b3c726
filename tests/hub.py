"""A hub on loopback: repositories of models and data sets, served as the real clients ask for them.

What `HfApi`, `hf_hub_download`, `HfFileSystem`, `from_pretrained` and `load_dataset` call of the
Hugging Face hub: a repository's commit and files at a revision, its tree, byte ranges of a file,
and the refusals that they turn into errors of their own. Of a gated repository everyone may see the
names of the files, and only holders of the token the files, as there. No writing, no Xet.

The clients read HF_ENDPOINT when they are imported, so run them in processes of their own:
`Hub.run`, or any other with `Hub.environment`.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["models", "datasets"]

API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)"
    r"(/(?P<what>revision|tree|paths-info|auth-check)(/(?P<revision>[^/]+)(/(?P<path>.*))?)?)?"
)
FILE = re.compile(
    r"/((?P<kind>datasets)/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)


@dataclass
class Repository:
    commits: dict[str, Path] = field(default_factory=dict)
    """Commit -> folder of its files."""

    refs: dict[str, str] = field(default_factory=dict)
    """Branch or tag -> commit."""

    token: str | None = None
    """What reads its files; everyone does where absent."""


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Hub:
    """Repositories under a folder, and the server that answers for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        """Method and address of each request, to see at which revision something was read."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.hub = self  # type: ignore[attr-defined]
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def push(
        self, kind: Kind, name: str, source: Path, tag: str | None = None, token: str | None = None
    ) -> str:
        """Commit a copy of a folder, move `main` (and a tag) there, and return the commit."""
        digest = hashlib.sha1(name.encode())
        for file in sorted(file for file in source.rglob("*") if file.is_file()):
            digest.update(file.relative_to(source).as_posix().encode() + file.read_bytes())
        commit = digest.hexdigest()
        repository = self.repositories.setdefault((kind, name), Repository(token=token))
        if commit not in repository.commits:
            repository.commits[commit] = self.folder / kind / name / commit
            shutil.copytree(source, repository.commits[commit])
        repository.refs |= {ref: commit for ref in ("main", tag) if ref}
        return commit

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """What points a process at this hub, with a cache of its own and no other token."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_TOKEN": token or "",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def run(
        self, home: Path, code: str, *words: str, token: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code in a process of its own that this is the hub of."""
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**os.environ, **self.environment(home, token)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def find(self, kind: str, name: str) -> Repository:
        try:
            return self.repositories[kind, name]
        except KeyError as error:
            raise Refusal(404, "RepoNotFound", "Repository not found") from error


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """Serve an empty hub from a folder until the block ends."""
    hub = Hub(folder)
    threading.Thread(target=hub.server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the clients keep their connections

    def do_GET(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        hub.requests.append(f"{self.command} {self.path}")
        self.commit = ""
        length = int(self.headers.get("Content-Length") or 0)
        asked = parse_qs(urlsplit(self.path).query) | parse_qs(self.rfile.read(length).decode())
        try:
            self.route(hub, urlsplit(self.path).path, asked)
        except Refusal as refusal:
            self.reply(
                json.dumps({"error": str(refusal)}).encode(),
                status=refusal.status,
                headers={"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)},
            )

    do_HEAD = do_GET
    do_POST = do_GET

    def route(self, hub: Hub, path: str, asked: dict[str, list[str]]) -> None:
        match = API.fullmatch(path) or FILE.fullmatch(path)
        if match is None:
            raise Refusal(404, "", f"no such route: {path}")
        parts = {name: unquote(part) for name, part in match.groupdict().items() if part}
        repository = hub.find(parts.get("kind", "models"), parts["id"])
        folder = self.checked_out(repository, parts.get("revision", "main"))
        wanted = parts.get("path", "")
        if match.re is FILE:
            self.admit(repository)
            self.send_file(folder, wanted)
            return
        match parts.get("what", "revision"):
            case "revision":
                answer: Any = self.info(repository, parts["id"], folder, "blobs" in asked)
            case "tree":
                answer = tree(folder, wanted, asked.get("recursive", [""])[0].lower() == "true")
            case "paths-info":
                paths = [folder / name for name in asked.get("paths", [])]
                answer = [entry(file, folder) for file in paths if file.exists()]
            case "auth-check":
                self.admit(repository)
                answer = {}
        self.reply(json.dumps(answer).encode())

    def checked_out(self, repository: Repository, revision: str) -> Path:
        self.commit = repository.refs.get(revision, revision)
        if self.commit not in repository.commits:
            self.commit = ""
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository.commits[self.commit]

    def admit(self, repository: Repository) -> None:
        """The real hub's refusals: 401 to the unknown, 403 to those who have not been let in."""
        given = self.headers.get("Authorization")
        if repository.token is not None and given != f"Bearer {repository.token}":
            raise Refusal(403 if given else 401, "GatedRepo", "Access to this model is restricted")

    def info(
        self, repository: Repository, name: str, folder: Path, with_sizes: bool
    ) -> dict[str, Any]:
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        sizes = [{"size": entry(file, folder)["size"]} if with_sizes else {} for file in files]
        siblings = [
            {"rfilename": file.relative_to(folder).as_posix(), **size}
            for file, size in zip(files, sizes, strict=True)
        ]
        gated = "manual" if repository.token is not None else False
        about = {"id": name, "modelId": name, "private": False, "gated": gated, "tags": []}
        return about | {"sha": self.commit, "siblings": siblings}

    def send_file(self, folder: Path, name: str) -> None:
        file = folder / name
        if not file.is_file():
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first = int(asked[1])
            last = min(int(asked[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self.reply(content[first : last + 1], 206, headers)
        else:
            self.reply(content, 200, headers)

    def reply(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "X-Repo-Commit": self.commit}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


def tree(folder: Path, path: str, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders under a path of a commit."""
    top = folder / path
    if not top.is_dir():
        raise Refusal(404, "EntryNotFound", f"{path} does not exist")
    return [entry(file, folder) for file in sorted(top.rglob("*") if recursive else top.iterdir())]


def entry(file: Path, folder: Path) -> dict[str, Any]:
    """A file or folder in the words of the hub's tree."""
    path = file.relative_to(folder).as_posix()
    if file.is_dir():
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    oid = hashlib.sha1(file.read_bytes()).hexdigest()
    return {"type": "file", "path": path, "oid": oid, "size": file.stat().st_size}
