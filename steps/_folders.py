"""Store a Folder as plain files: ZenML's own Path materializer gzips at 25 MB/s."""

import errno
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType
from zenml.io import fileio
from zenml.materializers.base_materializer import BaseMaterializer

from posttrain.artifacts import Folder
from posttrain.downloads import landing
from posttrain.runtime import Runtime


class FolderMaterializer(BaseMaterializer):
    """Link or copy a folder to the artifact store; read it in place where the store is local."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Folder,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    _saved: str | None = None

    def load(self, data_type: type[Folder[Any]]) -> Folder[Any]:
        """The stored folder, each file compared with its SHA-256.

        A local store's folder is used as it lies. A remote one is copied to the cache once a
        version: its URI names it, and artifacts never change.

        Raises:
            ValueError: in the store, a file was changed since it was written, or is missing.
        """
        if Path(self.uri).is_dir():
            return data_type(Path(self.uri)).verify()
        local = Runtime.from_environment().cache.resolve() / "artifacts" / Path(self.uri).name
        if (held := _whole(data_type, local)) is not None:
            return held
        local.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=local.parent) as staging:
            fresh = Path(staging) / "folder"
            _download(self.uri, fresh)
            try:
                data_type(fresh).verify()
            except ValueError as error:
                raise ValueError(f"{self.uri}: as downloaded: {error}") from error
            return _keep(data_type, fresh, local)

    def save(self, data: Folder[Any]) -> None:
        """Put the files into the store; a folder that was put together for it is then removed."""
        self._saved = data.content_hash()  # ZenML asks for it after saving
        for file in sorted(data.path.rglob("*")):
            if file.is_file():
                self._put(file, f"{self.uri}/{file.relative_to(data.path).as_posix()}")
        work = Runtime.from_environment().work.resolve()
        if data.path.resolve().is_relative_to(work):
            shutil.rmtree(data.path)

    def compute_content_hash(self, data: Folder[Any]) -> str:
        """Equal data is equal, whichever run made it: what depends on it stays cached."""
        return self._saved or data.content_hash()

    def _put(self, file: Path, target: str) -> None:
        parent = target.rpartition("/")[0]  # a URI may not go through Path: s3://x becomes s3:/x
        fileio.makedirs(parent)
        if "://" not in target and file.stat().st_dev == Path(parent).stat().st_dev:
            Path(target).unlink(missing_ok=True)
            os.link(file, target)  # no second copy of the weights on one disk
        else:
            fileio.copy(str(file), target, overwrite=True)


def _download(uri: str, target: Path) -> None:
    for folder, _, files in fileio.walk(uri):
        inner = os.path.relpath(str(folder), uri)
        for name in files:
            source = f"{folder!s}/{name!s}"
            there = landing(target, f"{inner}/{name!s}", source)
            there.parent.mkdir(parents=True, exist_ok=True)
            fileio.copy(source, str(there))


def _whole(data_type: type[Folder[Any]], path: Path) -> Folder[Any] | None:
    """The cache's copy; none where it is missing or damaged, for the store has another."""
    try:
        return data_type(path).verify()
    except ValueError:
        return None


def _keep(data_type: type[Folder[Any]], fresh: Path, local: Path) -> Folder[Any]:
    """Move a verified download to its place, or take what another run put there meanwhile.

    Raises:
        ValueError: it was whole, and no longer is.
    """
    while (held := _whole(data_type, local)) is None and fresh.exists():
        with suppress(FileNotFoundError):
            local.rename(fresh.with_name(f"damaged-{time.monotonic_ns()}"))
        try:
            fresh.rename(local)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    return held or data_type(local).verify()
