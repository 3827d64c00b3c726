"""What a row must satisfy to be trained on."""

from typing import Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveInt

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
