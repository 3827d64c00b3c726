"""What a recipe names on this machine lies below an allowed folder, or is refused by its field."""

import gzip
import io
import json
import os
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from posttrain import roots
from posttrain.align.constitution import load_constitution
from posttrain.artifacts import BaseModel
from posttrain.data.ingest import ingest
from posttrain.evaluate import harness
from posttrain.models.candidate import find, resolve_template
from posttrain.models.load import shapes
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
        *("../elsewhere/secret.txt", f"{here}/../elsewhere/secret.txt", "./.././*/secret.txt"),
        *("nothing/../../elsewhere/secret.txt", f"{out}/secret.txt", f"{out}/*", f"{out}/**/*.txt"),
        *("../*/*.txt", "*/secret.txt", "**/secret.txt", "link.*", "link.txt", "linked/secret.txt"),
        *("/etc/passwd", "/etc/pass*", "/proc/self/environ", "environment.txt", "/dev/stdin"),
        *("/dev/zero", "/dev/fd/0", "device.txt", "pipe.txt", "socket.txt", "ring.txt"),
        *("~/.ssh/id_rsa", "~root/.bashrc", "$HOME/.netrc", "%2e%2e/elsewhere/secret.txt"),
        *("..%2felsewhere%2fsecret.txt", "..\\elsewhere\\secret.txt", "C:\\Windows\\win.ini"),
        *("secret.txt\0.jsonl", "\0", "a" * 5_000, "\udcff.txt", "/" + "a/" * 3_000, " ", "."),
        *(f"file://{out}/secret.txt", f"file:{out}/secret.txt", f"FILE://{out}/secret.txt"),
        *("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "broken.txt"),
        *("https://example.org/x.jsonl", "ssh://host/etc/passwd", "s3://bucket/x.jsonl", "gs://b/x"),
        *("ftp://host/x", "hf://datasets/a/b/x.jsonl", "\\\\host\\share\\x", "//host/share/x"),
        *(f"zip://../x::{out}/secret.txt", f"filecache::file://{out}/secret.txt", "smb://host/x"),
        *("members.tar.gz", "members.zip", "bomb.jsonl.gz", "bomb.jsonl", "data:text/plain,x"),
    ]  # fmt: skip


def as_data(name: str, base: BaseModel) -> None:
    ingest(IngestRecipe(corpus=Source(source=name)))


def as_text(name: str, base: BaseModel) -> None:
    ingest(IngestRecipe(corpus=Source(source=name, format="txt")))


def preflight(template: str) -> Preflight:
    return Preflight(
        target_modules={},
        longest_sequence=8,
        longest_fields="",
        chat_template=template,
        system=None,
        learn_prompts=False,
    )


def as_template(name: str, base: BaseModel) -> None:
    resolve_template(load_tokenizer(base), preflight(name))


def as_constitution(name: str, base: BaseModel) -> None:
    load_constitution(Path(name))


def as_base(name: str, base: BaseModel) -> None:
    find(BaseModelRecipe(source=name))


READERS = {
    as_data: "ingest",
    as_text: "ingest",
    as_template: "template.chat_template",
    as_constitution: "self_critique.constitution",
    as_base: "base_model.source",
}


@pytest.mark.fault("Input", "a recipe names what is not its own", "paths, links, devices, URLs")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_what_leads_elsewhere_is_refused_by_its_field(
    reader: Callable[[str, BaseModel], None], inside: Path, base: BaseModel, injected: Injected
) -> None:
    names = payloads(inside)
    if reader is as_base:
        names = [name for name in names if not is_id_of_the_hub(name)]
    for name in names:
        injected.add()
        with pytest.raises(ValueError) as refused:
            reader(name, base)
        told = str(refused.value)
        assert type(refused.value) is ValueError, (name, told)  # ours, in words
        assert READERS[reader] in told or name[:100] in told or repr(name)[1:100] in told, told
        assert SECRET not in told
        assert len(told) < 2_000 + len(name)
    assert not (inside.parent / "elsewhere" / "dropped.txt").exists()


def is_id_of_the_hub(name: str) -> bool:
    """Whether the hub would be asked, which has no such thing either."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).is_dir()


def test_there_are_as_many_payloads_as_promised(inside: Path) -> None:
    assert len(set(payloads(inside))) >= 50


@pytest.mark.parametrize("name", ["../elsewhere", "linked", "/", "/proc/self", "/etc"])
def test_folders_elsewhere_are_not_walked_through(name: str, inside: Path) -> None:
    with pytest.raises(ValueError, match=r"include_path: .* a recipe may read below"):
        harness.find(HarnessRecipe(tasks=("secret",), include_path=name))
    with pytest.raises(ValueError, match=r"base_model\.source: .* a recipe may read below"):
        digest(BaseModelRecipe(source=name))
    encoded = json.dumps({"recipe": None, "file": name}).encode().hex()
    assert getattr(_sources, f"folder_{encoded}")() == "absent"


def test_a_cache_key_reads_no_file_elsewhere(inside: Path) -> None:
    for name in ("link.txt", "../elsewhere/secret.txt", "pipe.txt", "device.txt", "ring.txt"):
        encoded = json.dumps({"recipe": None, "file": name}).encode().hex()
        assert getattr(_sources, f"file_{encoded}")() == "absent"


@pytest.mark.parametrize("trap", ["link", "pipe", "device"])
def test_a_base_with_a_file_from_elsewhere_is_refused(
    trap: str, inside: Path, base: BaseModel
) -> None:
    """A folder that was checked out with a link in it."""
    folder = shutil.copytree(base.path / "weights", inside / "model")
    shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
    assert find(BaseModelRecipe(source="model")).reference.kind == "local"
    shutil.move(inside / f"{trap}.txt", folder / "vocab.txt")
    with pytest.raises(ValueError, match=r"base_model\.source: .*vocab\.txt"):
        find(BaseModelRecipe(source="model"))


def test_a_folder_of_a_base_is_no_link(inside: Path, base: BaseModel) -> None:
    """Below a root itself, and behind it what may lead elsewhere."""
    folder = shutil.copytree(base.path / "weights", inside / "model")
    shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
    (inside / "beside").mkdir()
    (inside / "beside" / "vocab.txt").symlink_to("../../elsewhere/secret.txt")
    (folder / "more").symlink_to("../beside")
    with pytest.raises(ValueError, match=r"base_model\.source: .*more is a link to a folder"):
        find(BaseModelRecipe(source="model"))


def test_weights_that_an_index_finds_elsewhere_are_refused(inside: Path, base: BaseModel) -> None:
    folder = shutil.copytree(base.path / "weights", inside / "model")
    shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
    index = {"weight_map": {"x": "../../elsewhere/secret.txt"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ValueError, match=r"names weights elsewhere: \['\.\./\.\./elsewhere"):
        shapes(folder)


def test_more_roots_are_named_by_the_machine(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = IngestRecipe(corpus=Source(source="../elsewhere/secret.txt"))
    monkeypatch.setenv("POSTTRAIN_ROOTS", f"/nowhere{os.pathsep}{inside.parent / 'elsewhere'}")
    assert ingest(source).facts.num_rows == {"corpus": 1}
    monkeypatch.setenv("POSTTRAIN_ROOTS", "/nowhere")
    with pytest.raises(ValueError, match=r"may read below .*here, /nowhere; move it there, or"):
        ingest(source)


def test_the_whole_disk_is_no_root_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.delenv("POSTTRAIN_ROOTS")
    assert roots.roots() == ()
    with pytest.raises(ValueError, match="the working directory is /"):
        roots.check("etc/hostname", "ingest")
    monkeypatch.setenv("POSTTRAIN_ROOTS", "/")
    assert roots.check("etc/hostname", "ingest") == Path("etc/hostname")
