"""Checkpoints that are whole or not there.

A checkpoint is written to a folder of another name, sealed with the SHA-256 of each file, and
renamed. One that lacks its seal, or differs from it, is passed over for the next older one.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from posttrain.artifacts import Folder, sha256, sha256_of
from posttrain.recipe.section import Section
from posttrain.runtime import Runtime

SEAL = "seal.json"
PREFIX = "checkpoint-"


def checkpoint_folder(stage: str, recipe: Section, *inputs: Folder[Any]) -> Path:
    """The stage's checkpoints for this section and these inputs, and for no others.

    Raises:
        ValueError: the runtime names a URL; folders alone are built so far.
    """
    root = Runtime.from_environment().checkpoints
    if "://" in root:
        raise ValueError(
            f"POSTTRAIN_CHECKPOINTS={root}: URLs are not built yet; name a folder that outlives "
            "the process (a volume)"
        )
    key = sha256_of([stage, recipe.model_dump(), [folder.content_hash() for folder in inputs]])
    folder = Path(root).resolve() / f"{stage}-{key[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(staged: Path, folder: Path, keep: int = 2) -> Path:
    """Seal a staged checkpoint, rename it into `folder`, and remove all but the newest `keep`.

    Args:
        staged: a finished folder called `checkpoint-<step>`, on the same file system.
        folder: where checkpoints are looked for.
        keep: two, so that one that was damaged after writing has a predecessor.
    """
    seal = {
        file.relative_to(staged).as_posix(): sha256(file)
        for file in staged.rglob("*")
        if file.is_file()
    }
    (staged / SEAL).write_text(json.dumps(seal), encoding="utf-8")
    target = folder / staged.name
    if target.exists():
        shutil.rmtree(target)  # a damaged one that newest_whole passed over
    staged.rename(target)
    for old in _by_step(folder)[keep:]:
        shutil.rmtree(old)
    return target


def forget(folder: Path) -> None:
    """Remove a stage's checkpoints, once what it made is sealed."""
    shutil.rmtree(folder, ignore_errors=True)


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint whose files equal its seal; None where there is none."""
    return next((found for found in _by_step(folder) if _is_whole(found)), None)


def _by_step(folder: Path) -> list[Path]:
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(PREFIX) :]), reverse=True)


def _is_whole(checkpoint: Path) -> bool:
    seal = checkpoint / SEAL
    if not seal.exists():
        return False
    try:
        expected = json.loads(seal.read_bytes())
    except ValueError:
        return False
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path != seal]
    found = {path.relative_to(checkpoint).as_posix(): sha256(path) for path in files}
    return bool(found == expected)
