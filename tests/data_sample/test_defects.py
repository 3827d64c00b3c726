"""The planted defects: those that `defects.json` lists, each once, and no others."""

import re
import unicodedata
from collections import Counter
from typing import Any

import _corpus
import _defects
import _similarity

Row = dict[str, Any]
COLUMNS = {
    "corpus": {"id", "text", "split"},
    "instructions": {"id", "messages", "group", "kind", "split"},
    "preferences": {"id", "prompt", "chosen", "rejected", "group", "kind", "split"},
    "prompts": {"id", "prompt", "group", "kind", "set"},
    "probes": {"id", "prompt", "answer", "group", "kind", "set"},
}
RRN = re.compile(r"\d{6}-\d{7}")
PHONE = re.compile(r"\b0\d{1,2}-\d{3,4}-\d{4}\b")
EMAIL = re.compile(r"[\w.]+@[\w.]+")
CONTROL = re.compile(r"<\|\w+\|>")
MOJIBAKE = re.compile("[\u00c0-\u00ff\ufffd]")


def texts(row: Row) -> list[str]:
    if "messages" in row:
        return [message["content"] for message in row["messages"]]
    return [row[name] for name in ("text", "prompt", "chosen", "rejected") if name in row]


def key(row: Row) -> str:
    """What is equal in exact duplicates: NFC, white space folded."""
    return " ".join(unicodedata.normalize("NFC", "\n".join(texts(row))).split())


def is_ordered(row: Row) -> bool:
    roles = [message["role"] for message in row.get("messages", [])]
    return roles == ["user", "assistant"] * (len(roles) // 2)


def has_valid_check_digit(number: str) -> bool:
    digits = [int(digit) for digit in number.replace("-", "")]
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    total = sum(d * w for d, w in zip(digits[:12], weights, strict=True))
    return (11 - total % 11) % 10 == digits[12]


def content_defects(role: str, row: Row) -> set[str]:
    """The defects that a row shows by itself."""
    parts = texts(row)
    joined = "\n".join(parts)
    signs = {
        "empty": any(not part.strip() for part in parts),
        "too_long": any(len(part) > _defects.TOO_LONG_CHARS for part in parts),
        "unknown_column": not set(row) <= COLUMNS[role],
        "role_order": not is_ordered(row),
        "rrn": any(has_valid_check_digit(number) for number in RRN.findall(joined)),
        "phone": bool(PHONE.search(joined)),
        "email": bool(EMAIL.search(joined)),
        "control_token": bool(CONTROL.search(joined)),
        "mojibake": bool(MOJIBAKE.search(joined)),
    }
    return {reason for reason, present in signs.items() if present}


def test_sound_rows_show_no_defect(sound: dict[str, list[Row]]) -> None:
    for role, found in sound.items():
        for row in found:
            assert set(row) == COLUMNS[role], row["id"]
            assert not content_defects(role, row), row["id"]
        assert not [text for text, num in Counter(map(key, found)).items() if num > 1], role


def test_planted_rows_show_their_one_defect(
    rows: dict[str, list[Row]], reasons: dict[str, dict[str, str]]
) -> None:
    for role, found in rows.items():
        by_id = {row["id"]: row for row in found}
        assert set(reasons[role]) <= set(by_id)
        for name, reason in reasons[role].items():
            expected = set() if reason in _defects.COPIES else {reason}
            assert content_defects(role, by_id[name]) == expected, name


def test_planted_counts_are_those_asked_for(reasons: dict[str, dict[str, str]]) -> None:
    assert {role: Counter(r.values()) for role, r in reasons.items() if r} == _defects.COUNTS


def test_copies_alone_repeat_an_earlier_row(
    rows: dict[str, list[Row]], reasons: dict[str, dict[str, str]]
) -> None:
    for role, found in rows.items():
        seen: set[str] = set()
        repeated = set()
        for row in found:
            if key(row) in seen and reasons[role].get(row["id"]) != "empty":
                repeated.add(row["id"])
            seen.add(key(row))
        copies = {name for name, reason in reasons[role].items() if reason == "exact_duplicate"}
        if role == "corpus":
            copies |= {n for n, reason in reasons[role].items() if reason == "held_out_overlap"}
        assert repeated == copies, role


def test_near_duplicates_alone_are_near(
    rows: dict[str, list[Row]], reasons: dict[str, dict[str, str]]
) -> None:
    corpus = rows["corpus"]
    near = set()
    for earlier, later, score in _similarity.similar_pairs(
        [unicodedata.normalize("NFC", row["text"]) for row in corpus], _corpus.MAX_SIMILARITY
    ):
        if key(corpus[earlier]) != key(corpus[later]):
            assert score > _defects.NEAR_DUPLICATE, (corpus[earlier]["id"], corpus[later]["id"])
            near.add(corpus[later]["id"])
    assert near == {n for n, r in reasons["corpus"].items() if r == "near_duplicate"}
