"""Write locked/hashes.txt: what the index says each pinned release's files are.

    python3 locked/make.py      # with pip-tools 7.6.2 installed: `make lock`

Kept are Linux's and macOS's wheels of the Pythons that we support; of a package without any wheel
its source. A hash that the file had for a pin that did not move is kept: another index's build of
torch, which this machine's pip may not see. What its pip sees in a folder is hashed here.
"""

import hashlib
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from install import ROOT, SOURCE, normal, read
from piptools.repositories import PyPIRepository

LOCK = ROOT / "locked" / "hashes.txt"
PINS = (ROOT / "constraints.txt", ROOT / "locked" / "cuda.txt", ROOT / "locked" / "builders.txt")
PYTHONS = re.compile(r"-((py2\.)?py3\d*|cp311|cp312|cp313|cp314|cp3\d+-abi3)-")
PLATFORMS = re.compile(
    r"-any\.whl$|manylinux\S*_(x86_64|aarch64)|macosx_\S*(arm64|universal2|x86_64)"
)
ANYWHERE = re.compile(r"cp31\dt-")
HEADER = "# Written by `make lock`; locked/install.py installs these files and no others.\n"


def main() -> None:
    known = read(LOCK)[0] if LOCK.exists() else {}
    lines = [HEADER]
    with tempfile.TemporaryDirectory() as cache:
        index = PyPIRepository([], cache_dir=cache)
        with index.allow_all_wheels():
            for name, release in sorted(pins()):
                files = files_of(index, name, release)
                wheels = {file: digest for file, digest in files.items() if is_ours(file)}
                kept = set((wheels or sources(files)).values())
                before = known.get(name)
                if before is not None and before[0] == release:
                    kept |= before[1]
                if not kept:
                    raise SystemExit(f"{name}=={release}: the index has no file of it")
                lines.append(line(name, release, kept, not wheels))
    LOCK.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines) - 1} packages, {sum(text.count('sha256') for text in lines)} files")


def pins() -> set[tuple[str, str]]:
    found = set()
    for file in PINS:
        for text in file.read_text("utf-8").splitlines():
            name, _, release = text.partition("==")
            found.add((normal(name), release.strip()))
    return found


def files_of(index: PyPIRepository, name: str, release: str) -> dict[str, str]:
    """File -> SHA-256, as the index says it; of a file in a folder of this machine's, its own."""
    found = {}
    for one in index.find_all_candidates(name):
        if str(one.version).partition("+")[0] == release:
            digest = one.link.hash if one.link.hash_name == "sha256" else None
            if digest is None and one.link.scheme == "file":
                file = Path(unquote(urlsplit(one.link.url).path))
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest is None:
                sys.exit(f"{one.link.url}: the index gives no SHA-256")
            found[one.link.filename] = digest
    return found


def is_ours(file: str) -> bool:
    return bool(
        file.endswith(".whl")
        and PYTHONS.search(file)
        and PLATFORMS.search(file)
        and not ANYWHERE.search(file)  # free-threaded builds
    )


def sources(files: dict[str, str]) -> dict[str, str]:
    return {file: digest for file, digest in files.items() if not file.endswith(".whl")}


def line(name: str, release: str, hashes: set[str], is_source: bool) -> str:
    told = "".join(f" \\\n  --hash=sha256:{digest}" for digest in sorted(hashes))
    return f"{name}=={release}{told}{f'  {SOURCE}' if is_source else ''}\n"


if __name__ == "__main__":
    main()
