"""Checkpoints that are whole or not there.

A checkpoint is written to a folder of another name, sealed with the SHA-256 of each file, and
renamed. One that lacks its seal, or differs from it, is passed over for the next older one. Where
`POSTTRAIN_CHECKPOINTS` is a URL, each is copied there, its seal last, and fetched by a process that
finds nothing newer on its own disk.
"""

import errno
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from torch import nn

from posttrain import processes
from posttrain.artifacts import Folder
from posttrain.downloads import landing
from posttrain.hashes import sha256, sha256_of
from posttrain.recipe.section import Section
from posttrain.runtime import Runtime
from posttrain.train.shortage import DiskFull, checkpoint_bytes, out_of_space
from posttrain.train.slots import own

SEAL = "seal.json"
PREFIX = "checkpoint-"
KEEP = 2
"""Two, so that one that was damaged after writing has a predecessor."""


@dataclass(frozen=True)
class Checkpoints:
    """A stage's checkpoints, found again by whoever runs it on the same inputs."""

    folder: Path
    """On this machine."""

    url: str | None = None
    """Where they outlive the machine, if not in `folder`."""

    @property
    def place(self) -> str:
        """Where a person looks for them."""
        return self.url or str(self.folder)

    def stage(self, step: int) -> Path:
        """An empty folder to write the checkpoint of `step` into; what a crash left is removed."""
        staged = self.folder / "staging" / f"{PREFIX}{step}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        return staged

    def check_room(self, stage: str, weights: Sequence[nn.Parameter], saves: int) -> None:
        """There is room on this machine for the checkpoints that stand side by side.

        Args:
            stage: for the error.
            weights: that learn.
            saves: checkpoints that the stage may write.

        Raises:
            DiskFull: there is not.
        """
        there = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        number = min(saves, KEEP + 1)  # one is written while KEEP stand
        needed = number * checkpoint_bytes(weights) - there
        if needed > (free := shutil.disk_usage(self.folder).free):
            raise DiskFull(
                errno.ENOSPC,
                f"{stage}: {self.folder} has {free:,} bytes free, and up to {number} checkpoints "
                f"side by side need {needed:,} more; free some, or set {self.variable} to a "
                "folder of a larger disk",
            )

    @contextmanager
    def writing(self, staged: Path, size: int) -> Iterator[None]:
        """Say where a checkpoint has no room; what there is of it is removed.

        Raises:
            DiskFull: names folder, bytes needed and free, and what to do.
        """
        try:
            yield
        except Exception as error:
            if (why := out_of_space(error)) is None:
                raise
            shutil.rmtree(staged, ignore_errors=True)
            free = shutil.disk_usage(self.folder).free
            raise DiskFull(
                errno.ENOSPC,
                f"{staged.name}: {why}; {self.folder} has {free:,} bytes free, and a checkpoint "
                f"needs about {size:,}: free some, or set {self.variable} to a folder of a larger "
                "disk; the same command goes on from the last checkpoint there",
            ) from error

    @contextmanager
    def named(self) -> Iterator[None]:
        """What goes wrong inside bears a note with the last good checkpoint."""
        try:
            yield
        except Exception as error:
            if processes.is_main():
                error.add_note(self._kept())
            raise

    def _kept(self) -> str:
        """A sentence for an error, which must not be lost to another one."""
        try:
            kept = self.newest()
        except Exception as why:  # a store that is away, the disk of its copies full
            return f"The checkpoints in {self.place} cannot be read now ({why})."
        what = f"The last good checkpoint is {kept.name}" if kept else "No checkpoint is"
        return f"{what} in {self.place}."

    @property
    def variable(self) -> str:
        """What moves `folder`."""
        return "POSTTRAIN_CHECKPOINTS" if self.url is None else "POSTTRAIN_WORK"

    def publish(self, staged: Path) -> Path:
        """Seal a staged checkpoint, put it in place, and remove all but the newest.

        Args:
            staged: a finished folder called `checkpoint-<step>`, on the file system of `folder`.
        """
        seal = {
            file.relative_to(staged).as_posix(): sha256(file)
            for file in staged.rglob("*")
            if file.is_file()
        }
        (staged / SEAL).write_text(json.dumps(seal), encoding="utf-8")
        target = self.folder / staged.name
        if target.exists():
            shutil.rmtree(target)  # a damaged one that newest() passed over
        staged.rename(target)
        for old in _newest_first(path.name for path in self.folder.iterdir())[KEEP:]:
            shutil.rmtree(self.folder / old)
        if self.url is not None:
            self._upload(target)
        return target

    def newest(self) -> Path | None:
        """The newest checkpoint whose files equal its seal; None where there is none."""
        ours = [path.name for path in self.folder.iterdir()]
        theirs = self._listed()
        for name in _newest_first({*ours, *theirs}):
            if name in ours and _is_whole(self.folder / name):
                return self.folder / name
            if name in theirs and _is_whole(fetched := self._fetch(name)):
                shutil.rmtree(self.folder / name, ignore_errors=True)
                return fetched.rename(self.folder / name)
        return None

    def discard(self, step: int) -> None:
        """Remove one that turned out bad, if it is there."""
        name = f"{PREFIX}{step}"
        shutil.rmtree(self.folder / name, ignore_errors=True)
        if name in self._listed():
            files, root = fsspec.url_to_fs(self.url)
            files.rm(f"{root}/{name}", recursive=True)

    def forget(self) -> None:
        """Remove them all, once what the stage made is sealed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.url is not None:
            files, root = fsspec.url_to_fs(self.url)
            if files.exists(root):
                files.rm(root, recursive=True)

    def _upload(self, checkpoint: Path) -> None:
        files, root = fsspec.url_to_fs(self.url)
        target = f"{root}/{checkpoint.name}"
        if files.exists(target):
            files.rm(target, recursive=True)
        names = sorted(path for path in checkpoint.rglob("*") if path.is_file())
        for path in [*(path for path in names if path.name != SEAL), checkpoint / SEAL]:
            name = f"{target}/{path.relative_to(checkpoint).as_posix()}"
            files.makedirs(name.rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), name)
        for old in _newest_first(self._listed())[KEEP:]:
            files.rm(f"{root}/{old}", recursive=True)

    def _listed(self) -> set[str]:
        if self.url is None:
            return set()
        files, root = fsspec.url_to_fs(self.url)
        files.invalidate_cache()
        if not files.exists(root):
            return set()
        names = (str(path).rstrip("/").rpartition("/")[2] for path in files.ls(root, detail=False))
        return {name for name in names if name.startswith(PREFIX)}

    def _fetch(self, name: str) -> Path:
        files, root = fsspec.url_to_fs(self.url)
        staged = self.folder / "staging" / name
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for path in files.find(f"{root}/{name}"):
            local = landing(staged, str(path).split(f"{root}/{name}/", 1)[1], str(path))
            local.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(path, str(local))
        return staged


def checkpoints_of(stage: str, recipe: Section, *inputs: Folder[Any]) -> Checkpoints:
    """The stage's checkpoints for this section and these inputs, and for no others.

    Nor for another number of processes: steps are of another size then.
    """
    runtime = Runtime.from_environment()
    parts = [stage, recipe.model_dump(), [folder.content_hash() for folder in inputs]]
    key = sha256_of([*parts, processes.count()] if processes.count() > 1 else parts)
    name = f"{stage}-{key[:16]}"
    root = runtime.checkpoints
    remote = "://" in root
    # the main process's: of a URL's checkpoints each process would have a folder of its own
    folder = processes.by_main(
        lambda: own((runtime.work / "checkpoints" if remote else Path(root)).resolve() / name)
    )
    folder.mkdir(parents=True, exist_ok=True)
    return Checkpoints(folder, f"{root.rstrip('/')}/{folder.name}" if remote else None)


def _newest_first(names: Any) -> list[str]:
    numbered = [name for name in names if name.startswith(PREFIX) and name[len(PREFIX) :].isdigit()]
    return sorted(numbered, key=lambda name: int(name[len(PREFIX) :]), reverse=True)


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
