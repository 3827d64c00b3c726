"""What steps hand to one another: folders that say what they hold.

Every folder has a `manifest.json`: its kind, the stage that made it, facts, and the SHA-256 of each
file. A folder is written once and never changed. Imports the standard library and pydantic alone.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import pydantic

from posttrain.profiles import RoleProfile
from posttrain.recipe.section import Section
from posttrain.recipe.train import Method, QuantizationRecipe

MANIFEST = "manifest.json"
HISTORY = "history.jsonl"
DATA_DOCS = "data_docs"
COST = "cost.json"
DRIFT = "drift.json"
TIMED = (HISTORY, DATA_DOCS, COST, DRIFT)  # of the moment: no part of what the folder holds

Role = Literal["corpus", "instructions", "preferences", "prompts", "probes"]
Facts = TypeVar("Facts", bound=Section)


class SourceFacts(Section):
    """Where one role's rows came from."""

    source: str
    revision: str | None
    """Commit of a hub data set; absent for files."""

    files: dict[str, str]
    """File -> SHA-256 of its bytes."""

    num_rows: dict[str, int] = pydantic.Field(default_factory=dict)
    """Path, glob or data set, as the recipe names it -> rows that were read."""


class RecordsFacts(Section):
    num_rows: dict[str, int]
    """Role -> rows."""

    sources: dict[str, SourceFacts]


class QuarantineFacts(Section):
    num_rows: dict[str, dict[str, int]]
    """Role -> reason -> rows."""

    sources: dict[str, SourceFacts] = pydantic.Field(default_factory=dict)
    """Role -> where the rows came from, those that passed too."""

    profiles: dict[str, RoleProfile] = pydantic.Field(default_factory=dict)
    """Role -> what the rows look like that passed."""


class Reference(Section):
    """Where the weights of a base are."""

    kind: Literal["hub", "local", "own"]
    source: str
    """Hub id, or folder; `weights` within the artifact for a base of our own."""

    revision: str | None = None
    """Resolved commit of a hub model."""


class RegisteredBase(Section):
    """The registered version that a base was made from."""

    name: str
    version: int
    content_hash: str


class BaseTraining(Section):
    """How Base FT made a base."""

    recipe: dict[str, Any]
    """The section that it was trained by."""

    figures: dict[str, float]
    """Final figures of the stage: loss, steps."""


class BaseModelFacts(Section):
    reference: Reference
    has_delta: bool
    """Whether a LoRA adapter in `delta/` is merged into the weights on loading."""

    architecture: str
    num_parameters: int
    vocabulary_size: int
    max_positions: int
    tokenizer_hash: str
    template_hash: str
    """Of the resolved chat template."""

    outside: dict[str, str]
    """File -> SHA-256 of weights in a local folder outside the artifact; else empty."""

    fingerprint: str
    """SHA-256 over shapes, vocabulary and content (commit or file hashes, delta included)."""

    training: BaseTraining | None = None
    """Absent where nothing was trained."""

    registered: RegisteredBase | None = None
    """The version of the registry that it stands on, where the recipe names one."""


class ChatsFacts(Section):
    num_rows: dict[str, int]
    dropped: dict[str, dict[str, int]]
    """Role -> reason -> rows."""

    template_hash: str
    tokenizer_hash: str
    data_hashes: dict[str, str]
    """Role -> SHA-256 of the validated records; for lineage."""


class TokensFacts(Section):
    tokenizer_hash: str
    template_hash: str
    max_length: int
    block_size: int
    counts: dict[str, dict[str, int]]
    """Role -> rows, tokens, supervised tokens, dropped, split."""

    data_hashes: dict[str, str]
    """Role -> SHA-256 of the validated records; for lineage."""


class TrainedOn(Section):
    """What a policy or reward model was trained on; checked before a weight is loaded."""

    base_fingerprint: str
    tokenizer_hash: str
    template_hash: str


class PolicyFacts(Section):
    trained_on: TrainedOn
    method: Method
    quantization: QuantizationRecipe | None = None
    """How its base is quantised on loading; absent where it is not."""

    num_trainable: int
    num_adapted_modules: int
    recipe: dict[str, Any]
    """The section that it was trained by."""

    figures: dict[str, float]
    """Final figures of the stage: loss, steps, tokens."""

    warnings: tuple[str, ...] = ()
    """What its report must say: signs of a result that came about for the wrong reason."""


class RewardModelFacts(PolicyFacts):
    score_mean: float
    """Mean score of the SFT model's own samples, subtracted from every score."""

    score_std: float
    """Their standard deviation."""

    accuracy: float
    by_kind: dict[str, float]
    num_pairs: int


class RevisionsFacts(Section):
    num_samples: int
    dropped: dict[str, int]
    """Filter reason -> samples."""

    critic_accuracy: float
    constitution: str = ""
    """SHA-256 of the constitution's file."""


class AiPreferencesFacts(Section):
    num_pairs: int
    """Preferences that are left to train on."""

    num_judged: int
    dropped: dict[str, int]
    """`tie`, `unparsable` or another reason -> pairs."""

    judge_accuracy: float
    """Share of held-out human pairs, of the kinds that the recipe names, preferred rightly."""

    judge_by_kind: dict[str, float]
    """The same of every kind."""

    num_human_pairs: int
    """Pairs behind `judge_accuracy`."""

    first_preferred: float
    """Mean probability given to the answer in the first place, over these pairs; 0.5 is fair."""

    order_decides: float
    """Share of these pairs in which the winner changes with the order."""

    order_by_kind: dict[str, float]
    """The same of every kind."""


class Manifest(Section):
    """The content of `manifest.json`."""

    kind: str
    stage: str
    facts: dict[str, Any]
    files: dict[str, str]
    """Relative path -> SHA-256."""


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
        manifest = Manifest(kind=cls.KIND, stage=stage, facts=facts.model_dump(), files=files)
        _write_manifest(path, manifest)
        return cls(path)

    def add(self, name: str, text: str) -> None:
        """Put a file that carries times into a folder that is sealed and not yet handed on."""
        assert name in TIMED, name
        (self.path / name).write_text(text, encoding="utf-8")
        manifest = self.manifest
        files = dict(sorted({**manifest.files, name: sha256(self.path / name)}.items()))
        _write_manifest(self.path, manifest.model_copy(update={"files": files}))

    @property
    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            ValueError: the folder has none, or it is of another kind.
        """
        file = self.path / MANIFEST
        try:
            manifest = Manifest.model_validate_json(file.read_bytes())
        except (FileNotFoundError, pydantic.ValidationError) as error:
            raise ValueError(f"{file}: not a manifest of an artifact: {error}") from error
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

        Raises:
            ValueError: names the files that are missing, changed, or not listed.
        """
        expected = self.manifest.files
        found = {
            file.relative_to(self.path).as_posix(): sha256(file)
            for file in self.path.rglob("*")
            if file.is_file() and file.name != MANIFEST
        }
        if bad := sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        ):
            raise ValueError(f"{self.path}: differs from its manifest in {bad}; run the step again")
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


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    text = manifest.model_dump_json(indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def sources_digest(sources: Mapping[str, SourceFacts]) -> str:
    """SHA-256 over which files or commits the roles' sources are, in hex."""
    return sha256_of(
        {role: facts.model_dump(exclude={"num_rows"}) for role, facts in sources.items()}
    )


def sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys, in hex."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
