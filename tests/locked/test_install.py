"""No file is installed that the lock does not name: pip itself, on packages made here."""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from locked.install import chosen
from tests.faults import Injected

ROOT = Path(__file__).parents[2]
PINS = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$", re.M)


def pins(*files: str) -> set[tuple[str, str]]:
    texts = [(ROOT / file).read_text("utf-8") for file in files]
    return {(normal(name), release) for text in texts for name, release in PINS.findall(text)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_pin_has_hashes_and_nothing_else_has() -> None:
    text = (ROOT / "locked/hashes.txt").read_text("utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition("==")
        found[name, rest.split()[0]] = re.findall(r"--hash=sha256:([0-9a-f]{64})(?= |$)", rest)
    assert set(found) == pins("constraints.txt", "locked/cuda.txt", "locked/builders.txt")
    assert [one for one, hashes in found.items() if not hashes] == []
    assert len(found["torch", "2.13.0"]) > 10  # both builds, several Pythons


def test_every_extra_is_pinned() -> None:
    """What installs by name alone takes its release from constraints.txt."""
    known = {name for name, _ in pins("constraints.txt")}
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    asked = {normal(name) for name in re.findall(r'"([A-Za-z][\w.-]*)', extras)}
    assert asked - known == set()


def test_a_file_is_told_by_its_own_hash(tmp_path: Path) -> None:
    """Old pips tell none; a build that torch's file names (`+cpu`, quoted or not) is no release."""
    file = tmp_path / "a_b-1.0%2Bcpu-cp311-cp311-linux_x86_64.whl"
    file.write_bytes(b"wheel")
    digest = hashlib.sha256(b"wheel").hexdigest()
    lock = {"a-b": ("1.0", frozenset({digest}))}
    found = chosen(tmp_path, lock, tmp_path / "built")
    assert found == {"a-b": ("1.0+cpu", frozenset({digest}))}
    file.write_bytes(b"another")
    with pytest.raises(SystemExit, match=r"a-b 1\.0\+cpu: .* is not in the lock"):
        chosen(tmp_path, lock, tmp_path / "built")


def test_only_the_very_wheel_that_was_built_here_needs_no_hash(tmp_path: Path) -> None:
    """An index may offer another file of its name."""
    files, built = tmp_path / "files", tmp_path / "built"
    for folder in (files, built):
        folder.mkdir()
        (folder / "a-1.0-py3-none-any.whl").write_bytes(b"made here")
    lock = {"a": ("1.0", frozenset({"0" * 64}))}  # of its source
    assert chosen(files, lock, built)["a"][0] == "1.0"
    (files / "a-1.0-py3-none-any.whl").write_bytes(b"made elsewhere")
    with pytest.raises(SystemExit, match=r"a 1\.0: .* is not in the lock"):
        chosen(files, lock, built)


def wheel(folder: Path, name: str, needs: str = "", body: str = "HERE = 1\n") -> str:
    """A wheel of one module; its SHA-256."""
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as out:
        out.writestr(f"{name}.py", body)
        out.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {needs}\n" if needs else ""))
        out.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        out.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """`above` needs `below`; name -> hash."""
    below = wheel(tmp_path / "index", "below")
    return {"above": wheel(tmp_path / "index", "above", "below>=1"), "below": below}


def install(folder: Path, lock: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "lock.txt").write_text(
        "".join(f"{name}==1.0 \\\n  --hash=sha256:{digest}\n" for name, digest in lock.items())
    )
    (folder / "needs.txt").write_text("above\n")
    (folder / "pins.txt").write_text("above==1.0\nbelow==1.0\n")
    return subprocess.run(
        [
            *(sys.executable, ROOT / "locked/install.py", "--file", folder / "needs.txt"),
            *("--lock", folder / "lock.txt", "--constraints", folder / "pins.txt"),
            *("--target", folder / "into"),
        ],
        env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "index"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def installed(folder: Path) -> set[str]:
    return {file.stem for file in (folder / "into").glob("*.py")}


def test_what_the_lock_names_is_installed(tmp_path: Path, index: dict[str, str]) -> None:
    done = install(tmp_path, index)
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path) == {"above", "below"}


@pytest.mark.fault("Servers", "a package that is not the locked one", "its file exchanged")
def test_an_exchanged_file_is_refused(
    tmp_path: Path, index: dict[str, str], injected: Injected
) -> None:
    for name, needs in (("below", ""), ("above", "below>=1")):
        wheel(tmp_path / "index", name, needs, "raise SystemExit('it ran')\n")
        done = install(tmp_path, index)
        injected.add(lost=bool(installed(tmp_path)))
        assert done.returncode != 0
        assert re.search(r"(above|below) 1\.0: .* is not in the lock", done.stderr)
        assert installed(tmp_path) == set()


@pytest.mark.fault("Servers", "a package that is not the locked one", "one more, asked for by one")
def test_a_package_that_the_lock_lacks_is_refused(
    tmp_path: Path, index: dict[str, str], injected: Injected
) -> None:
    done = install(tmp_path, {"above": index["above"]})
    injected.add(lost=bool(installed(tmp_path)))
    assert done.returncode != 0
    assert "below 1.0" in done.stderr
    assert installed(tmp_path) == set()
