"""Where a file of a store may land: below the folder that it is copied to, whatever its name."""

from pathlib import Path, PurePosixPath


def landing(folder: Path, name: str, source: str) -> Path:
    """The path of `name` below `folder`.

    Keys of an object store are any text: `a//b` and `../b` are names there and leave a folder here.

    Args:
        folder: that is copied to.
        name: of the file, as the store has it, relative to what is copied.
        source: of the file, for the error.

    Raises:
        ValueError: the name leads out of the folder.
    """
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts:
        raise ValueError(f"{source}: the name leads out of its folder; remove it from the store")
    return folder / inner
