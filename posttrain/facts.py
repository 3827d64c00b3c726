"""What the manifests of artifacts tell of their content. Imports pydantic alone."""

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from posttrain.hashes import sha256_of
from posttrain.profiles import RoleProfile
from posttrain.recipe.section import Section
from posttrain.recipe.train import Method, QuantizationRecipe

Role = Literal["corpus", "instructions", "preferences", "prompts", "probes"]


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

    trusts_code: bool = False
    """Whether the recipe names the hub model's own code at this commit as one that may run."""


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


def sources_digest(sources: Mapping[str, SourceFacts]) -> str:
    """SHA-256 over which files or commits the roles' sources are, in hex."""
    return sha256_of(
        {role: facts.model_dump(exclude={"num_rows"}) for role, facts in sources.items()}
    )
