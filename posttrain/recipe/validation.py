"""What a row must satisfy to be trained on."""

from typing import Literal, Self, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from posttrain.recipe.section import Section

Language = Literal[
    "ko", "en", "ja", "zh", "de", "es", "fr", "it", "pt", "vi", "ru", "ar", "hi", "th"
]

Reason = Literal[
    "schema",
    "unknown_column",
    "empty",
    "too_long",
    "mojibake",
    "control_token",
    "role_order",
    "rrn",
    "email",
    "phone",
    "language",
    "held_out_overlap",
    "exact_duplicate",
    "near_duplicate",
]
"""Why a row is quarantined; a row bears the first that applies."""

REASONS: tuple[Reason, ...] = get_args(Reason)

Dimension = Literal["length", "vocabulary", "source", "kind", "preferred"]
"""What of a role's rows is compared with the champion's: characters a row; words; the recipe's
paths, globs or data sets, by the rows read; labels in `kind`; whether the longer answer is the
preferred one."""


class NearDuplicates(Section):
    """MinHash near-duplicate removal (Broder 1997), run by DataTrove."""

    shingle_words: PositiveInt = 3
    """Words a shingle."""

    num_buckets: PositiveInt = 14
    """LSH buckets; more find pairs of lower similarity."""

    hashes_per_bucket: PositiveInt = 8
    """Hashes a bucket; more demand a higher similarity."""

    min_similarity: float = Field(0.85, gt=0, le=1)
    """Jaccard similarity of shingles above which a candidate pair counts as near-duplicate."""


class RoleRules(Section):
    """Rules for the rows of one role."""

    min_chars: NonNegativeInt = 1
    """Shortest text, in characters, counted after stripping white space."""

    max_chars: PositiveInt = 20_000
    """Longest text, in characters, of any one text of a row."""

    min_language_share: float = Field(0.0, ge=0, le=1)
    """Least share of letters that belong to `languages`' scripts."""

    pii: bool = True
    """Quarantine rows with a resident registration number, an e-mail address or a phone number."""

    exact_duplicates: bool = True
    """Keep the first of rows that are equal after Unicode and white-space normalisation."""

    near_duplicates: NearDuplicates | None = None
    """Keep the first of near-duplicate rows; off where absent."""

    max_failing_share: float = Field(0.1, ge=0, le=1)
    """Share of quarantined rows above which the step fails."""


class DriftRecipe(Section):
    """When data is too far from the data of the champion's run, by the population stability index.

    0.1 and 0.25 are the customary limits of credit scoring (Siddiqi, Credit Risk Scorecards, 2006):
    below the first nothing moved, above the second a model is looked at anew.
    """

    dimensions: tuple[Dimension, ...] = ("length", "vocabulary", "source", "kind", "preferred")
    """What is compared."""

    notable: float = Field(0.1, gt=0)
    """Index above which the report points a dimension out."""

    beyond: float = Field(0.25, gt=0)
    """Index above which `on_drift` takes effect."""

    false_alarms: float = Field(0.01, gt=0, lt=1)
    """Share of runs that may be called drifted where nothing drifted: few rows differ by chance, so
    an index counts only where it is above what chance gives (Yurdakul and Naranjo 2020)."""

    on_drift: Literal["warn", "fail"] = "warn"
    """`warn`: a log line and an alert. `fail`: the step fails, its report saved."""

    @model_validator(mode="after")
    def notable_comes_before_beyond(self) -> Self:
        if self.notable > self.beyond:
            raise ValueError(
                f"validation.drift: notable ({self.notable}) is above beyond ({self.beyond})"
            )
        return self


class ValidationRecipe(Section):
    """Rules a role, and the check of training against held-out text."""

    languages: tuple[Language, ...] = ("ko", "en")
    """Languages whose scripts count for `min_language_share`."""

    corpus: RoleRules = RoleRules(near_duplicates=NearDuplicates())
    """Rules for domain text."""

    instructions: RoleRules = RoleRules()
    """Rules for conversations."""

    preferences: RoleRules = RoleRules()
    """Rules for preference pairs."""

    prompts: RoleRules = RoleRules()
    """Rules for prompts."""

    probes: RoleRules = RoleRules(exact_duplicates=False)
    """Rules for held-out questions; a question may be asked by several probes."""

    held_out_overlap: bool = True
    """Quarantine training rows whose text also stands in a held-out split or in a probe."""

    drift: DriftRecipe | None = DriftRecipe()
    """Comparison with the data of the champion's run, where there is one; null leaves it out."""
