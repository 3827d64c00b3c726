"""A raw row in canonical columns, whatever its source called them or composed of several.

Nothing is judged and nothing is lost here: a value of the wrong type becomes null, or moves to
`extra`, and `validate` quarantines the row with a reason.
"""

import hashlib
import json
import math
from typing import Any

from posttrain.data.rows import Message, Row, question
from posttrain.data.text import normalise
from posttrain.facts import Role
from posttrain.recipe.ingest import COLUMNS, PLACE, Source, ways

_LABELS = ("id", "group", "kind", "set", "split", "answer")
_NOWHERE = (None, "")


def canonical(
    role: Role, raw: dict[str, Any], source: Source, number: int, split: str | None = None
) -> Row:
    """The raw row `number` (from 1) of a role, in canonical columns.

    Args:
        role: what the rows are for.
        raw: columns as the source has them.
        source: what they mean.
        number: of the row, for its name.
        split: where the row belongs, whatever it says itself.
    """
    names = {name: source.fields.get(name, name) for name in COLUMNS[role]}
    given = {name: raw.get(column) for name, column in names.items()}
    given |= {name: composed(text, raw) for name, text in source.compose.items()}
    used = {column for name in COLUMNS[role] for column in source.columns_of(name)}
    extra = {k: v for k, v in raw.items() if k not in used and v not in _NOWHERE}
    row: Row = {name: label(given[name]) for name in _LABELS if name in given}
    row["id"] = row["id"] or f"{role}-{number}"
    if role == "instructions" and ("messages",) not in ways(role, source):
        given["messages"] = None  # the recipe says what prompt and response are
    row.update(_texts(role, given))
    if role == "preferences":
        row["margin"] = _number(given["margin"])
    for name in row.keys() & given.keys():
        if row[name] is None and name in (*_LABELS, "margin") and given[name] not in _NOWHERE:
            extra[names[name]] = given[name]  # mis-typed: kept, so that validate sees it
    if role != "corpus":
        row["group"] = row["group"] or _default_group(role, row)
    if "split" in row:
        row["split"] = split or row["split"] or _split(role, row, source.held_out_share)
    row["extra"] = _json(extra) if extra else None
    return row


def composed(text: str, raw: dict[str, Any]) -> str | None:
    """`text` with the row's columns in place; None where it has columns and all are empty.

    A paragraph whose columns are all empty is left out: `{instruction}`, a blank line and `{input}`
    is the instruction alone where there is no input. What the columns hold is not read again, so
    braces in them are text.
    """
    paragraphs = [_filled(paragraph, raw) for paragraph in text.split("\n\n")]
    with_columns = [words for words, has_columns in paragraphs if has_columns]
    if with_columns and not any(words is not None for words in with_columns):
        return None
    return "\n\n".join(words for words, _ in paragraphs if words is not None)


def _filled(paragraph: str, raw: dict[str, Any]) -> tuple[str | None, bool]:
    """The paragraph in words, None where its columns are all empty; and whether it has any."""
    names = (place[1] for place in PLACE.finditer(paragraph))
    columns = {name: label(raw.get(name)) or "" for name in names if name}
    if columns and not any(word.strip() for word in columns.values()):
        return None, True
    words = PLACE.sub(lambda place: columns[place[1]] if place[1] else place[0][0], paragraph)
    return words, bool(columns)


def _texts(role: Role, given: dict[str, Any]) -> Row:
    if role == "corpus":
        return {"text": string(given["text"])}
    if role == "probes":
        return {"prompt": string(given["prompt"])}
    if role == "prompts":
        return {"prompt": _prompt(given["prompt"])}
    if role == "preferences":
        answers = {name: _answer(given[name]) for name in ("chosen", "rejected")}
        return {"prompt": _prompt(given["prompt"]), **answers}
    return {"messages": _conversation(given)}


def string(value: Any) -> str | None:
    """A string that UTF-8 can hold (lone surrogates become U+FFFD); None for anything else."""
    if not isinstance(value, str):
        return None
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def label(value: Any) -> str | None:
    """A name or a number as a string; None for nothing and for anything else."""
    if isinstance(value, (bool, int, float)):
        return str(value)
    return string(value) or None


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _conversation(given: dict[str, Any]) -> list[Message] | None:
    if given["messages"] is not None:
        return _messages(given["messages"], with_learn=True)
    turns = [("system", given["system"])] if given["system"] not in _NOWHERE else []
    turns += [("user", given["prompt"]), ("assistant", given["response"])]
    return _messages([{"role": r, "content": c} for r, c in turns], with_learn=True)


def _messages(value: Any, with_learn: bool) -> list[Message] | None:
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parsed(value)  # a csv cell can hold messages as JSON alone
    if not isinstance(value, list):
        return None
    return [_message(item if isinstance(item, dict) else {}, with_learn) for item in value]


def _message(item: dict[str, Any], with_learn: bool) -> Message:
    message: Message = {"role": string(item.get("role")), "content": string(item.get("content"))}
    if with_learn:
        message["learn"] = message["role"] == "assistant" and item.get("learn") is not False
    return message


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _prompt(value: Any) -> list[Message] | None:
    if isinstance(value, str):
        return [{"role": "user", "content": string(value)}]
    return _messages(value, with_learn=False)


def _answer(value: Any) -> str | None:
    # hub data sets often give the whole conversation: its last message is the answer
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content") if value[-1].get("role") == "assistant" else None
    return string(value)


def _default_group(role: Role, row: Row) -> str:
    asked = question(role, row) if role in ("instructions", "preferences") else None
    return _hash(normalise(asked)).hex()[:16] if asked else str(row["id"])


def _split(role: Role, row: Row, held_out_share: float) -> str:
    # equal documents fall on one side
    key = normalise(row["text"] or row["id"]) if role == "corpus" else row["group"]
    return "held_out" if int.from_bytes(_hash(key)[:8]) < held_out_share * 2**64 else "train"


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _json(extra: dict[Any, Any]) -> str:
    text = json.dumps({str(k): v for k, v in extra.items()}, ensure_ascii=False, default=str)
    return string(text) or "{}"
