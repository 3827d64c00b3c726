"""The canonical columns of each role, and what of a row counts as its text.

A row is what one line of `<role>.parquet` holds, as a dictionary.
"""

from typing import Any, get_args

import pyarrow as pa

from posttrain.facts import Role

Row = dict[str, Any]
Message = dict[str, Any]

ROLES: tuple[Role, ...] = get_args(Role)

_MESSAGE = [("role", pa.string()), ("content", pa.string())]
_PROMPT = pa.list_(pa.struct(_MESSAGE))
_CONVERSATION = pa.list_(pa.struct([*_MESSAGE, ("learn", pa.bool_())]))


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([("id", pa.string()), *columns.items(), ("extra", pa.string())])


_LABELS = {"group": pa.string(), "kind": pa.string()}
SCHEMAS: dict[Role, pa.Schema] = {
    "corpus": _schema(text=pa.string(), split=pa.string()),
    "instructions": _schema(messages=_CONVERSATION, **_LABELS, split=pa.string()),
    "preferences": _schema(
        prompt=_PROMPT,
        chosen=pa.string(),
        rejected=pa.string(),
        **_LABELS,
        margin=pa.float64(),
        split=pa.string(),
    ),
    "prompts": _schema(prompt=_PROMPT, **_LABELS, set=pa.string()),
    "probes": _schema(prompt=pa.string(), answer=pa.string(), **_LABELS, set=pa.string()),
}


def conversation(role: Role, row: Row) -> list[Message] | None:
    """The row's messages; None where the role has none or the value is missing."""
    messages: list[Message] | None = row.get("messages" if role == "instructions" else "prompt")
    return messages if isinstance(messages, list) else None


def texts(role: Role, row: Row) -> list[str]:
    """Every text of the row that came from data, missing ones left out."""
    if role == "corpus":
        found = [row["text"]]
    elif role == "probes":
        found = [row["prompt"], row["answer"]]
    else:
        found = [message["content"] for message in conversation(role, row) or ()]
        if role == "preferences":
            found += [row["chosen"], row["rejected"]]
    return [text for text in found if text is not None]


def question(role: Role, row: Row) -> str | None:
    """What must not stand on both sides of the split: the document, or the first user's prompt."""
    if role in ("corpus", "probes"):
        text: str | None = row["text" if role == "corpus" else "prompt"]
        return text
    messages = conversation(role, row) or ()
    return next((m["content"] for m in messages if m["role"] == "user"), None)


def is_held_out(role: Role, row: Row) -> bool:
    """Whether the row serves evaluation alone."""
    return role == "probes" or row.get("set" if role == "prompts" else "split") == "held_out"
