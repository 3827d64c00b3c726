"""An artifact store of ZenML's that is no folder: fsspec's memory, in this process."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

from fsspec.implementations.memory import MemoryFileSystem
from zenml.artifact_stores import BaseArtifactStore, BaseArtifactStoreConfig
from zenml.enums import StackComponentType
from zenml.io.filesystem import PathType

SCHEME = "hdfs://"
"""One of those that ZenML takes for remote, and that no store of its own serves."""


class Memory(MemoryFileSystem):  # type: ignore[misc]
    """In memory, by our scheme."""

    protocol = "hdfs"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("hdfs:/")))


MEMORY = Memory()


class InMemoryConfig(BaseArtifactStoreConfig):
    """Its address; the base class wants the schemes beside it."""

    SUPPORTED_SCHEMES: ClassVar[set[str]] = {SCHEME}


class InMemoryStore(BaseArtifactStore):
    """As ZenML's own stores of objects: each call is fsspec's; `fileio` finds it by the scheme."""

    def open(self, name: PathType, mode: str = "r") -> Any:
        return MEMORY.open(str(name), mode)

    def copyfile(self, src: PathType, dst: PathType, overwrite: bool = False) -> None:
        MEMORY.copy(str(src), str(dst))

    def exists(self, path: PathType) -> bool:
        return bool(MEMORY.exists(str(path)))

    def glob(self, pattern: PathType) -> list[PathType]:
        return [f"hdfs:/{path}" for path in MEMORY.glob(str(pattern))]

    def isdir(self, path: PathType) -> bool:
        return bool(MEMORY.isdir(str(path)))

    def listdir(self, path: PathType) -> list[PathType]:
        return [str(one).rpartition("/")[2] for one in MEMORY.ls(str(path), detail=False)]

    def makedirs(self, path: PathType) -> None:
        MEMORY.makedirs(str(path), exist_ok=True)

    def mkdir(self, path: PathType) -> None:
        MEMORY.mkdir(str(path))

    def remove(self, path: PathType) -> None:
        MEMORY.rm_file(str(path))

    def rename(self, src: PathType, dst: PathType, overwrite: bool = False) -> None:
        MEMORY.mv(str(src), str(dst))

    def rmtree(self, path: PathType) -> None:
        MEMORY.rm(str(path), recursive=True)

    def stat(self, path: PathType) -> Any:
        return MEMORY.stat(str(path))

    def size(self, path: PathType) -> int | None:
        return int(MEMORY.size(str(path)))

    def walk(
        self,
        top: PathType,
        topdown: bool = True,
        onerror: Callable[..., None] | None = None,
    ) -> Iterable[tuple[PathType, list[PathType], list[PathType]]]:
        for folder, folders, files in MEMORY.walk(str(top)):
            yield f"hdfs:/{folder}", list(folders), list(files)


def remote_store() -> InMemoryStore:
    """An empty one at an address of its own."""
    return InMemoryStore(
        name="remote",
        id=uuid4(),
        config=InMemoryConfig(path=f"{SCHEME}{uuid4()}"),
        flavor="memory",
        type=StackComponentType.ARTIFACT_STORE,
        user=None,
        created=datetime.now(UTC),
        updated=datetime.now(UTC),
    )
