"""A user's file: what it holds, which role it fits, and which of its columns mean what."""

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from posttrain.data.readers import file_rows
from posttrain.facts import Role
from posttrain.recipe.ingest import COLUMNS, Source

LOOKED_AT = 2_000
"""Rows to look at."""

DELIMITERS = ",;\t|"
NAMES = {
    "text": ("text", "content", "document", "body", "passage", "article", "본문", "내용", "텍스트"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "대화"),
    "prompt": ("prompt", "question", "instruction", "query", "input", "질문", "지시", "지시문"),
    "response": ("response", "answer", "output", "completion", "reply", "답변", "응답", "답"),
    "system": ("system", "system_prompt"),
    "chosen": ("chosen", "preferred", "better", "선호", "선택"),
    "rejected": ("rejected", "dispreferred", "worse", "비선호", "거부"),
    "id": ("id", "uid", "uuid", "번호"),
    "group": ("group", "topic", "분야", "주제"),
    "kind": ("kind", "category", "type", "유형", "분류"),
    "margin": ("margin",),
    "split": ("split",),
    "set": ("set",),
    "answer": ("answer", "expected", "정답"),
}
"""Canonical column -> names that it goes by, the likeliest first."""

NEEDS: tuple[tuple[Role, tuple[str, ...]], ...] = (
    ("preferences", ("prompt", "chosen", "rejected")),
    ("probes", ("prompt", "answer", "set")),
    ("instructions", ("messages",)),
    ("instructions", ("prompt", "response")),
    ("corpus", ("text",)),
    ("prompts", ("prompt",)),
)
"""Roles with the columns that they need, the most demanding first."""


@dataclass(frozen=True)
class Found:
    """A file as the recipe will name it."""

    file: Path
    role: Role
    source: Source
    columns: tuple[str, ...]
    unused: tuple[str, ...]
    num_rows: int
    """Rows looked at."""

    longest: int
    """Characters of text in a row, 99th percentile."""

    answered_sets: tuple[str, ...]
    """Of probes: values of `set` whose every question has an answer."""


def look_at(file: Path, role: Role | None = None) -> Found:
    """Read a file's first rows and propose a role and a mapping.

    Raises:
        ValueError: the file can't be read, is empty, or fits no role (or not the one given).
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    source = Source(source=file.as_posix(), delimiter=_delimiter(file))
    rows = list(itertools.islice(file_rows(file, source), LOOKED_AT))
    if not rows:
        raise ValueError(f"{file}: has no rows")
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    role, mapping = _fit(file, columns, role)
    if "messages" in mapping:
        _check_messages(file, mapping["messages"], rows)
    held_out = 0.05 if "split" in COLUMNS[role] and "split" not in mapping else 0.0
    renamed = {name: column for name, column in mapping.items() if name != column}
    lengths = sorted(
        sum(_num_chars(row.get(column)) for column in mapping.values()) for row in rows
    )
    return Found(
        file=file,
        role=role,
        source=source.model_copy(update={"fields": renamed, "held_out_share": held_out}),
        columns=columns,
        unused=tuple(name for name in columns if name not in mapping.values()),
        num_rows=len(rows),
        longest=lengths[math.ceil(0.99 * len(lengths)) - 1],
        answered_sets=_answered_sets(rows, mapping) if role == "probes" else (),
    )


def _fit(file: Path, columns: tuple[str, ...], wanted: Role | None) -> tuple[Role, dict[str, str]]:
    """The role, and canonical column -> column of the file."""
    for role, needs in NEEDS:
        if wanted not in (None, role):
            continue
        mapping = _mapping(columns, needs, COLUMNS[role])
        if mapping is not None:
            return role, mapping
    roles = (wanted,) if wanted else get_args(Role)
    needed = "; ".join(f"{role}: {', '.join(needs)}" for role, needs in NEEDS if role in roles)
    raise ValueError(
        f"{file}: its columns {list(columns)} fit no role ({needed}); rename columns, or name them "
        "under ingest.<role>.fields in a recipe"
    )


def _mapping(
    columns: tuple[str, ...], needs: tuple[str, ...], canonical: tuple[str, ...]
) -> dict[str, str] | None:
    """Each canonical column's own; what is needed chooses first, and no column serves twice."""
    mapping: dict[str, str] = {}
    by_name = {column.strip().lower(): column for column in columns}
    for name in dict.fromkeys([*needs, *canonical]):
        if name not in needs and name in ("messages", "prompt", "response"):
            continue  # the other form of a conversation
        free = (by_name[n] for n in NAMES[name] if n in by_name)
        column = next((c for c in free if c not in mapping.values()), None)
        if column is not None:
            mapping[name] = column
        elif name in needs:
            return None
    return mapping


def _check_messages(file: Path, column: str, rows: list[dict[str, Any]]) -> None:
    value = rows[0][column]
    turns = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    first = turns[0] if isinstance(turns, list) and turns else turns
    if not isinstance(first, dict) or not {"role", "content"} <= first.keys():
        found = sorted(first) if isinstance(first, dict) else type(first).__name__
        raise ValueError(
            f"{file}: {column!r} must be a list of messages with `role` (system, user, assistant) "
            f"and `content`; found {found}"
        )


def _answered_sets(rows: list[dict[str, Any]], mapping: dict[str, str]) -> tuple[str, ...]:
    sets, answer = mapping["set"], mapping["answer"]
    open_ones = {row.get(sets) for row in rows if not row.get(answer)}
    return tuple(sorted({str(row[sets]) for row in rows if row.get(sets)} - open_ones))


def _delimiter(file: Path) -> str:
    """The separator that stands most often in a csv file's header."""
    if file.suffix.lower() != ".csv":
        return ","
    with file.open("rb") as stream:
        header = stream.readline().decode("utf-8", "replace")
    return max(DELIMITERS, key=header.count)


def _num_chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(_num_chars(v.get("content")) for v in value if isinstance(v, dict))
    return 0
