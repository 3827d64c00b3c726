"""Install what a project asks for, and only files whose SHA-256 the lock names.

    python3 locked/install.py --extras data,train             # into the environment of this Python
    pip's python locked/install.py --python X --file needs.txt   # into that of another

Runs before anything is installed: the standard library and pip alone. pip's own hash mode wants
every package listed beforehand, and which those are depends on the machine: torch's CUDA build
needs twenty packages that its CPU build does not. So:

1. What builds source packages, and these (`# from source`), by pip's hash mode.
2. pip resolves and downloads wheels alone: nothing of them runs. (What a wheel asks for by an
   address, and not by name, pip would build; PyPI takes no such wheels, a mirror of yours might.)
3. Each file that it chose must be in the lock, by the hash that is taken here: old pips tell none.
4. pip installs these very files, by its hash mode and from no index.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "# from source"
BUILDERS = ("setuptools", "wheel")
Lock = dict[str, tuple[str, frozenset[str]]]
"""Name -> release and the hashes of its files."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, by commas")
    parser.add_argument("--file", type=Path, help="requirements, in place of pyproject.toml's")
    parser.add_argument("--python", help="into the environment of this one")
    parser.add_argument("--lock", type=Path, default=ROOT / "locked" / "hashes.txt")
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    given, more = parser.parse_known_args()
    needs = given.file.read_text("utf-8") if given.file else wanted(given.extras)
    lock, sources = read(given.lock)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "needs.txt").write_text(needs, encoding="utf-8")
        build(lock, sources, work)
        files = work / "files"
        pip(
            *(None, "download", "--only-binary", ":all:", "--find-links", work / "built"),
            *("-d", files, "-c", given.constraints, "-r", work / "needs.txt"),
        )
        found = chosen(files, lock, work / "built")
        hashed(work / "found.txt", found)
        pip(
            *(given.python, "install", "--no-index", "--find-links", files, "--no-deps"),
            *("--require-hashes", *more, "-r", work / "found.txt"),
        )
    print(f"{len(found)} packages installed, each file as {given.lock.name} says", file=sys.stderr)


def build(lock: Lock, sources: list[str], work: Path) -> None:
    """Wheels of the source packages, in `built`; their code runs after it was checked."""
    (work / "built").mkdir()
    if sources:
        hashed(work / "builders.txt", {name: lock[name] for name in BUILDERS})
        hashed(work / "sources.txt", {name: lock[name] for name in sources})
        pip(None, "install", "--require-hashes", "--no-deps", "-r", work / "builders.txt")
        pip(
            *(None, "wheel", "--require-hashes", "--no-deps", "--no-build-isolation"),
            *("--no-binary", ",".join(sources), "-w", work / "built", "-r", work / "sources.txt"),
        )


def wanted(extras: str) -> str:
    """The requirements of the project and of some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"]]
    for extra in filter(None, extras.split(",")):
        lines += optional[extra]
    return "\n".join(lines) + "\n"


def read(file: Path) -> tuple[Lock, list[str]]:
    """The lock, and the names of what is built from source."""
    lock: Lock = {}
    sources = []
    for line in file.read_text("utf-8").replace("\\\n", " ").splitlines():
        found = re.match(r"([A-Za-z0-9._-]+)==(\S+)", line)
        if found is not None:
            name = normal(found[1])
            lock[name] = found[2], frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
            if line.endswith(SOURCE):
                sources.append(name)
    return lock, sources


def chosen(files: Path, lock: Lock, built: Path) -> Lock:
    """Name -> release and hash of each file that was downloaded; ends where the lock lacks one."""
    found: Lock = {}
    for file in sorted(files.iterdir()):
        name, version = normal(file.name.split("-")[0]), unquote(file.name.split("-")[1])
        digest, made = sha256(file), built / file.name
        release, hashes = lock.get(name, ("no release", frozenset()))
        ours = made.exists() and sha256(made) == digest  # of a source that was checked
        if version.partition("+")[0] != release or not (ours or digest in hashes):
            raise SystemExit(
                f"{name} {version}: {file.name} (SHA-256 {digest[:12]}...) is not in the lock, "
                f"which has {release} with {len(hashes)} files. Take the package from another "
                "index, or add the file after a look at it: make lock"
            )
        found[name] = version, frozenset({digest})
    return found


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def hashed(file: Path, packages: Lock) -> None:
    lines = [
        " ".join((f"{name}=={version}", *(f"--hash=sha256:{digest}" for digest in sorted(hashes))))
        for name, (version, hashes) in packages.items()
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pip(python: str | None, *words: object) -> None:
    into = ["--python", python] if python else []
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *into, *quiet, *(str(word) for word in words)]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
