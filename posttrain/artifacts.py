"""What steps hand to one another: folders that say what they hold.

Every folder has a `manifest.json`: its kind, the stage that made it, facts, and the SHA-256 of each
file. A folder is written once and never changed. Imports the standard library and pydantic alone.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import pydantic

from posttrain.facts import (
    AiPreferencesFacts,
    BaseModelFacts,
    ChatsFacts,
    PolicyFacts,
    QuarantineFacts,
    RecordsFacts,
    RevisionsFacts,
    RewardModelFacts,
    Role,
    TokensFacts,
)
from posttrain.hashes import sha256, sha256_of
from posttrain.recipe.section import Section

MANIFEST = "manifest.json"
HISTORY = "history.jsonl"
DATA_DOCS = "data_docs"
COST = "cost.json"
DRIFT = "drift.json"
TIMED = (HISTORY, DATA_DOCS, COST, DRIFT)  # of the moment: no part of what the folder holds

RACY = 2 * 10**9
"""Nanoseconds within which two changes of a file may bear one time, on the coarsest file system."""

_verified: dict[Path, list[tuple[str, int, int]]] = {}
"""Folders that this process has verified, with the stamps of their files then."""

Facts = TypeVar("Facts", bound=Section)


class Manifest(Section):
    """The content of `manifest.json`."""

    kind: str
    stage: str
    facts: dict[str, Any]
    files: dict[str, str]
    """Relative path -> SHA-256."""

    sha256: str
    """Of all the other fields: a manifest is a file too."""

    @classmethod
    def sealed(cls, kind: str, stage: str, facts: dict[str, Any], files: dict[str, str]) -> Self:
        """A manifest with its own hash, over the JSON that a reader will see."""
        fields = {"kind": kind, "stage": stage, "facts": facts, "files": files}
        read_back = json.loads(cls(sha256="", **fields).model_dump_json())
        return cls(**read_back | {"sha256": cls._hash(read_back)})

    @classmethod
    def read(cls, content: bytes) -> Self:
        """The manifest in `content`.

        Raises:
            ValueError: it is no manifest, or not what was written.
        """
        manifest = cls.model_validate_json(content)
        if not content.endswith(b"\n"):
            raise ValueError("its end is cut off")
        if cls._hash(json.loads(content)) != manifest.sha256:
            raise ValueError("its own SHA-256 differs: it was changed after it was written")
        return manifest

    @staticmethod
    def _hash(fields: dict[str, Any]) -> str:
        return sha256_of({name: value for name, value in fields.items() if name != "sha256"})


@dataclass(frozen=True)
class Folder(Generic[Facts]):
    """A folder of files with a manifest; the subclass says which kind."""

    path: Path

    KIND: ClassVar[str]
    FACTS: ClassVar[type[Section]]

    @classmethod
    def write(cls, path: Path, stage: str, facts: Facts) -> Self:
        """Seal `path`: hash every file in it and write its manifest."""
        files = {
            file.relative_to(path).as_posix(): sha256(file)
            for file in sorted(path.rglob("*"))
            if file.is_file() and file.name != MANIFEST
        }
        _write_manifest(path, Manifest.sealed(cls.KIND, stage, facts.model_dump(), files))
        return cls(path)

    def add(self, name: str, text: str) -> None:
        """Put a file that carries times into a folder that is sealed and not yet handed on."""
        assert name in TIMED, name
        (self.path / name).write_text(text, encoding="utf-8")
        manifest = self.manifest
        files = dict(sorted({**manifest.files, name: sha256(self.path / name)}.items()))
        sealed = Manifest.sealed(manifest.kind, manifest.stage, manifest.facts, files)
        _write_manifest(self.path, sealed)

    @property
    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            ValueError: the folder has none, or it is of another kind.
        """
        file = self.path / MANIFEST
        try:
            manifest = Manifest.read(file.read_bytes())
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(
                f"{file}: not the manifest of an artifact: {error}; run the step again"
            ) from error
        if manifest.kind != self.KIND:
            raise ValueError(f"{file}: holds {manifest.kind!r}; {self.KIND!r} is wanted")
        return manifest

    @property
    def stage(self) -> str:
        """The step that made it."""
        return self.manifest.stage

    @property
    def facts(self) -> Facts:
        """What the manifest tells of the content.

        Raises:
            ValueError: another release of ours wrote it, with other facts.
        """
        try:
            return self.FACTS.model_validate(self.manifest.facts)  # type: ignore[return-value]
        except pydantic.ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise ValueError(
                f"{self.path / MANIFEST}: its facts are not this release's (the first to differ: "
                f"{field}); run the pipeline again, or `make clean` for an empty store"
            ) from error

    def verify(self) -> Self:
        """Compare every file with its recorded SHA-256.

        Once a process: files whose sizes and times stand as they did are not read again.

        Raises:
            ValueError: names the files that are missing, changed, or not listed.
        """
        expected = self.manifest.files
        if (stamps := _stamps(self.path)) == _verified.get(self.path):
            return self
        found = {
            file.relative_to(self.path).as_posix(): sha256(file)
            for file in self.path.rglob("*")
            if file.is_file() and file.name != MANIFEST
        }
        if bad := sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        ):
            raise ValueError(f"{self.path}: differs from its manifest in {bad}; run the step again")
        if max(changed for _, _, changed in stamps) < time.time_ns() - RACY:
            _verified[self.path] = stamps
        return self

    def made_by(self, *stages: str) -> Self:
        """Refuse a folder of the right kind that another step made.

        Raises:
            ValueError: names the step that made it, and those that may.
        """
        if self.stage not in stages:
            raise ValueError(
                f"{self.path}: a {self.KIND} made by {self.stage!r}; one made by "
                f"{' or '.join(map(repr, stages))} is wanted"
            )
        return self

    def content_hash(self) -> str:
        """SHA-256 of what the folder holds: equal data is equal, whoever wrote it and when.

        Left out: curves, costs and Data Docs, which carry times, and the comparison with the
        champion of the moment.
        """
        manifest = self.manifest
        files = {
            name: sha for name, sha in manifest.files.items() if name.split("/")[0] not in TIMED
        }
        return sha256_of([manifest.kind, manifest.stage, manifest.facts, files])


class Records(Folder[RecordsFacts]):
    """One Parquet file a role, `<role>.parquet`, in canonical columns."""

    KIND = "records"
    FACTS = RecordsFacts

    def file(self, role: Role) -> Path:
        """The role's Parquet file; absent where the recipe names no source for it."""
        return self.path / f"{role}.parquet"


class Quarantine(Folder[QuarantineFacts]):
    """Rows that failed, `<role>.parquet`: canonical columns, `reason` and `detail`.

    `drift.json` is the comparison with the data of the champion's run.
    """

    KIND = "quarantine"
    FACTS = QuarantineFacts


class BaseModel(Folder[BaseModelFacts]):
    """A reference to weights with an optional `delta/` adapter, or `weights/` of our own.

    `tokenizer/` holds the tokenizer with the resolved chat template.
    """

    KIND = "base_model"
    FACTS = BaseModelFacts


class Chats(Folder[ChatsFacts]):
    """Canonical messages, `<role>.parquet`, with the resolved `chat_template.jinja`."""

    KIND = "chats"
    FACTS = ChatsFacts


class Tokens(Folder[TokensFacts]):
    """Token ids, unpadded, `<role>.parquet` a role."""

    KIND = "tokens"
    FACTS = TokensFacts


class Policy(Folder[PolicyFacts]):
    """What a stage trained on a `BaseModel`: `adapter/` as PEFT writes it, or `weights/`."""

    KIND = "policy"
    FACTS = PolicyFacts


class RewardModel(Folder[RewardModelFacts]):
    """`score.safetensors`, and `adapter/` as PEFT writes it on the policy's base, or `weights/`."""

    KIND = "reward_model"
    FACTS = RewardModelFacts


class Revisions(Folder[RevisionsFacts]):
    """`samples.jsonl`: each self-critique sample with its provenance."""

    KIND = "revisions"
    FACTS = RevisionsFacts


class AiPreferences(Folder[AiPreferencesFacts]):
    """The AI judge's pairs in the columns of the human ones, with soft labels.

    `preferences.parquet`; `judgements.jsonl` has each judgement with its provenance, dropped too.
    """

    KIND = "ai_preferences"
    FACTS = AiPreferencesFacts


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the last change of each file, the manifest too."""
    files = ((file, file.stat()) for file in sorted(folder.rglob("*")) if file.is_file())
    return [
        (str(file), stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)) for file, stat in files
    ]


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    text = manifest.model_dump_json(indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
