"""What a recipe names on this machine lies below an allowed folder, or is refused by its field."""

import gzip
import io
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posttrain import roots
from posttrain.align.constitution import load_constitution
from posttrain.artifacts import BaseModel
from posttrain.data.ingest import ingest
from posttrain.evaluate import harness
from posttrain.models.candidate import find, resolve_template
from posttrain.models.source import digest
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.harness import HarnessRecipe
from posttrain.recipe.ingest import IngestRecipe, Source
from posttrain.recipe.preflight import Preflight
from steps import _sources
from tests.faults import Injected

SECRET = "kim:$6$salt$never-to-be-read"


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory beside a folder with a secret, and nothing else allowed."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.txt").write_text(SECRET, encoding="utf-8")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("POSTTRAIN_ROOTS")
    make_traps(here)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket.txt")
    yield here
    listener.close()


def make_traps(here: Path) -> None:
    """What a checked-out recipe may bring beside it."""
    (here / "link.txt").symlink_to("../elsewhere/secret.txt")
    (here / "linked").symlink_to("../elsewhere")
    (here / "ring.txt").symlink_to("ring.txt")
    (here / "broken.txt").symlink_to("nowhere")
    os.mkfifo(here / "pipe.txt")
    (here / "device.txt").symlink_to("/dev/zero")
    (here / "environment.txt").symlink_to("/proc/self/environ")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("../../elsewhere/dropped.txt")
        archive.addfile(member, io.BytesIO())
    (here / "members.tar.gz").write_bytes(packed.getvalue())
    with zipfile.ZipFile(here / "members.zip", "w") as zipped:
        zipped.writestr("../elsewhere/dropped.txt", "x")
    (here / "bomb.jsonl.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    (here / "bomb.jsonl").write_bytes((here / "bomb.jsonl.gz").read_bytes())


def payloads(here: Path) -> list[str]:
    """Names that lead out, or to what is no file."""
    out = here.parent / "elsewhere"
    return [
        *("../elsewhere/secret.txt", "./../elsewhere/secret.txt", f"{here}/../elsewhere/secret.txt"),
        *("nothing/../../elsewhere/secret.txt", str(out / "secret.txt"), f"{out}/*", f"{out}/**/*.txt"),
        *("../*/*.txt", "*/secret.txt", "**/secret.txt", "link.*", "link.txt", "linked/secret.txt"),
        *("/etc/passwd", "/etc/pass*", "/proc/self/environ", "environment.txt", "/dev/stdin"),
        *("/dev/zero", "/dev/fd/0", "device.txt", "pipe.txt", "socket.txt", "ring.txt", "broken.txt"),
        *("~/.ssh/id_rsa", "~root/.bashrc", "$HOME/.netrc", "%2e%2e/elsewhere/secret.txt"),
        *("..%2felsewhere%2fsecret.txt", "..\\elsewhere\\secret.txt", "C:\\Windows\\win.ini"),
        *("secret.txt\0.jsonl", "\0", "a" * 5_000, "\udcff.txt", "/" + "a/" * 3_000, " ", "."),
        *(f"file://{out}/secret.txt", f"file:{out}/secret.txt", f"FILE://{out}/secret.txt"),
        *("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest", "//host/share/x"),
        *("https://example.org/x.jsonl", "ssh://host/etc/passwd", "s3://bucket/x.jsonl", "gs://bucket/x"),
        *("ftp://host/x", "hf://datasets/a/b/x.jsonl", "\\\\host\\share\\x.jsonl", "smb://host/x"),
        *(f"zip://../x::{out}/secret.txt", f"filecache::file://{out}/secret.txt", "data:text/plain,x"),
        *("members.tar.gz", "members.zip", "bomb.jsonl.gz", "bomb.jsonl"),
    ]  # fmt: skip


def as_data(name: str, base: BaseModel) -> None:
    ingest(IngestRecipe(corpus=Source(source=name)))


def as_text(name: str, base: BaseModel) -> None:
    ingest(IngestRecipe(corpus=Source(source=name, format="txt")))


def as_template(name: str, base: BaseModel) -> None:
    resolve_template(load_tokenizer(base), Preflight(chat_template=name, **NOTHING_ELSE))


def as_constitution(name: str, base: BaseModel) -> None:
    load_constitution(Path(name))


def as_base(name: str, base: BaseModel) -> None:
    find(BaseModelRecipe(source=name))


def as_tasks(name: str, base: BaseModel) -> None:
    harness.find(HarnessRecipe(tasks=("secret",), include_path=name))


NOTHING_ELSE: dict[str, object] = {}
FIELDS = {
    as_data: "ingest",
    as_text: "ingest",
    as_template: "template.chat_template",
    as_constitution: "self_critique.constitution",
    as_base: "base_model.source",
    as_tasks: "evaluation.harness",
}
