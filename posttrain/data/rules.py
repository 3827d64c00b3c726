"""What is derived from a row for Great Expectations to judge.

Each finding is a short text that never holds personal data, or None where nothing was found;
lengths, the order of roles and the share of language are what the suite compares with the recipe.
"""

import json
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass

from posttrain.data import pii
from posttrain.data.rows import Row, conversation, is_held_out, question, texts
from posttrain.data.text import control_token, fingerprint, language_share, mojibake, normalise
from posttrain.facts import Role
from posttrain.recipe.validation import RoleRules, ValidationRecipe

ROLE_NAMES = frozenset({"system", "user", "assistant"})
FIELDS: dict[Role, tuple[str, ...]] = {
    "corpus": ("text",),
    "instructions": ("messages",),
    "preferences": ("prompt", "chosen", "rejected"),
    "prompts": ("prompt",),
    "probes": ("prompt",),
}
"""Columns that must hold a value."""

DERIVED = (
    *("id", "split", "schema", "unknown_column", "shortest_chars", "longest_chars", "mojibake"),
    *("control_token", "role_order", "rrn", "email", "phone", "language_share"),
    "held_out_overlap",
)
"""Columns that the suites see; where a row's schema is broken, or a rule is off, they are null."""


@dataclass(frozen=True)
class Examiner:
    """Derives the columns of one role."""

    role: Role
    rules: RoleRules
    recipe: ValidationRecipe
    rare_columns: frozenset[str]
    held_out: Container[bytes]
    """Fingerprints of held-out text."""

    def derive(self, row: Row) -> Row:
        """The derived columns of one row; past a broken schema nothing else is looked at."""
        split = row.get("split", "train")
        derived: Row = {"id": row["id"], "split": pii.mask(split[:40]) if split else split}
        derived["schema"] = schema_finding(self.role, row)
        if derived["schema"]:
            return derived
        found = texts(self.role, row)
        lengths = [len(text.strip()) for text in found] or [0]
        text = "\n".join(found)
        return derived | {
            "unknown_column": self.unknown_column(row["extra"]),
            "shortest_chars": min(lengths),
            "longest_chars": max(lengths),
            "mojibake": mojibake(text),
            "control_token": pii.mask(control_token(text) or "") or None,
            "role_order": role_order(self.role, row),
            **(pii_findings(text) if self.rules.pii else {}),
            "language_share": self.language(text),
            "held_out_overlap": self.overlap(row),
        }

    def unknown_column(self, extra: str | None) -> str | None:
        """Columns that hardly any other row has."""
        rare = sorted(self.rare_columns & extra_columns(extra)) if extra else []
        return f"hardly any other row has {', '.join(rare)[:100]}" if rare else None

    def language(self, text: str) -> float | None:
        """Share of letters in the recipe's languages; not computed where the rule is off."""
        if not self.rules.min_language_share:
            return None
        return language_share(text, self.recipe.languages)

    def overlap(self, row: Row) -> str | None:
        """Whether a training row's text stands in held-out text."""
        if not self.recipe.held_out_overlap or is_held_out(self.role, row):
            return None
        asked = normalise(question(self.role, row) or "")
        held_out = asked and fingerprint(asked) in self.held_out
        return "the same text is held out" if held_out else None


def schema_finding(role: Role, row: Row) -> str | None:
    """What is missing or mis-typed."""
    for name in FIELDS[role]:
        if row[name] is None:
            return f"{name} is missing or has the wrong type"
    for number, message in enumerate(conversation(role, row) or ()):
        for name in ("role", "content"):
            if message is None or message[name] is None:
                return f"message {number}: {name} is missing or has the wrong type"
    if role == "preferences" and normalise(row["chosen"]) == normalise(row["rejected"]):
        return "chosen and rejected are the same text"
    return None


def role_order(role: Role, row: Row) -> str | None:
    """The roles of a conversation in their order, for the suite's pattern; None for plain text."""
    messages = conversation(role, row)
    if messages is None:
        return None
    # an unknown name is quoted: it must not read as two known ones
    names = [
        m["role"] if m["role"] in ROLE_NAMES else repr(pii.mask(m["role"])[:20]) for m in messages
    ]
    return " ".join(names)


def pii_findings(text: str) -> dict[str, str | None]:
    """Kind -> where the first one stands."""
    if not any(map(str.isdigit, text)) and "@" not in text and "＠" not in text:
        return dict.fromkeys(pii.FINDERS)
    text = pii.readable(text)
    spans = {kind: pii.find(kind, text) for kind in pii.FINDERS}
    return {
        kind: f"at characters {span[0]} to {span[1]}" if span else None
        for kind, span in spans.items()
    }


def extra_columns(extra: str | None) -> set[str]:
    """Names of the columns that a row has besides the canonical ones."""
    return set(json.loads(extra)) if extra else set()


def count_columns(extras: Iterable[str | None]) -> Counter[str]:
    """In how many rows each column stands."""
    counts: Counter[str] = Counter()
    for extra in extras:
        if extra:
            counts.update(extra_columns(extra))
    return counts


def whole_text(role: Role, row: Row) -> str:
    """What makes two rows of a role the same: every text and, in conversations, who said it."""
    if role in ("corpus", "probes"):
        return normalise("\n".join(texts(role, row)))
    said = [f"{m['role']}: {m['content']}" for m in conversation(role, row) or ()]
    if role == "preferences":
        said += [row["chosen"], row["rejected"]]
    return normalise("\x00".join(said))
