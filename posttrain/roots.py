"""Where a recipe may read on this machine: the working directory, and what POSTTRAIN_ROOTS adds.

A recipe may come from somebody else. Its paths are followed to their end, links and `..` resolved,
and refused where that lies elsewhere: a data set of `/home/kim/.ssh/*` would be trained on, and
shown in a report. What a person types on the command line is the person's own business.
"""

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from posttrain.runtime import Runtime

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|//|\\\\")
"""A scheme such as `https://` or `file:/`, or another machine's share such as `//host/share`."""

SHOWN = 200
"""Characters of a path that an error shows."""


def roots() -> tuple[Path, ...]:
    """The folders below which a recipe may read, links resolved.

    The file system's own root is none unless it is named: a working directory of `/` would allow
    everything unasked.
    """
    here = Path.cwd().resolve()
    named = (root.expanduser().resolve() for root in Runtime.from_environment().roots)
    return (*([here] if here != Path(here.anchor) else []), *named)


def check(path: str | Path, field: str) -> Path:
    """The path as it was given, if it stays below a root.

    Args:
        path: of a file or folder, there or not.
        field: of the recipe that names it.

    Raises:
        ValueError: it is a URL, cannot be a path, or leads elsewhere.
    """
    text = str(path)
    if "\0" in text:
        raise ValueError(f"{field}: {shown(text)} holds the character NUL, which no path may")
    if URL.match(text):
        raise ValueError(
            f"{field}: {shown(text)} is a URL or another machine's share, and a path on this "
            "machine is wanted; copy the files here, or name an id of the hub"
        )
    try:
        found, allowed = Path(text).resolve(), roots()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a ring of links, half a pair
        raise ValueError(
            f"{field}: {shown(text)} is no path that can be followed ({error})"
        ) from None
    if not any(found.is_relative_to(root) for root in allowed):
        raise ValueError(
            f"{field}: {shown(text)} leads to {shown(str(found))}, and a recipe may read below "
            f"{', '.join(map(str, allowed)) or 'no folder (the working directory is /)'}; move it "
            "there, or name its folder in POSTTRAIN_ROOTS (several are parted by a colon)"
        )
    return Path(text)


def file(path: str | Path, field: str, wanted: str = "one") -> Path:
    """A regular file below a root; `wanted` is what to name.

    Raises:
        ValueError: as `check`, or there is no such file; devices, pipes and folders are none.
    """
    found = check(path, field)
    if not is_there(found) or not found.is_file():
        raise ValueError(f"{field}: no file {str(path)[:SHOWN]}; name {wanted}")
    return found


def folder(source: str, field: str) -> Path | None:
    """A folder below a root, its files too; None where `source` is no folder here.

    Raises:
        ValueError: the folder or a file in it leads elsewhere, or is a device, a pipe or a link to
            another folder.
    """
    path = Path(source)
    if not is_there(path) or not path.is_dir():
        return None
    check(path, field)
    for one in sorted(path.rglob("*")):
        check(one, field)
        if one.is_symlink() and one.is_dir():  # which rglob does not enter
            raise ValueError(f"{field}: {one} is a link to a folder; put the folder itself there")
        if not (one.is_dir() or one.is_file()):
            raise ValueError(f"{field}: {one} is neither a file nor a folder; take it away")
    return path


def matches(pattern: str, field: str) -> Iterator[Path]:
    """The regular files that a glob names, sorted.

    Raises:
        ValueError: the glob begins, or a file that it finds lies, elsewhere.
    """
    parts = Path(pattern).parts
    fixed = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    check(Path(*parts[:fixed]), field)  # else `/**` would walk the whole disk first
    found = (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207  absolute ones too
    for path in sorted(found):
        check(path, field)
        if path.is_file():
            yield path


def is_there(path: Path) -> bool:
    """Whether something is there; what cannot be a path is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def shown(text: str) -> str:
    """A path as an error has it; escaped where a terminal would not show it as it is."""
    short = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return short if short.isprintable() else repr(short)
