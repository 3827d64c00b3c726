"""Rows to be answered: read from JSON Lines, refused by file and line where they are no questions.

A row has `prompt` (a text) or `messages` (a conversation that ends with the user); what else it has
is carried through to its answer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from posttrain.data.chat import encode_prompts

ROLES = ("system", "user", "assistant")
ANSWER_COLUMNS = ("response", "ended", "num_tokens")
"""Columns that an answered row gains."""

SHOWN = 5
"""Problems to name before the rest is counted."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One row, and what the model is shown of it."""

    where: str
    """File and line."""

    row: Row
    messages: list[dict[str, str]]


def read_questions(file: Path, system: str | None = None) -> list[Question]:
    """Read a file of JSON Lines.

    Args:
        file: the file.
        system: message for conversations that bring none of their own.

    Raises:
        ValueError: the file cannot be read, holds no rows, or some of them are no questions.
    """
    if file.is_char_device() or file.is_block_device():  # it may have no end
        raise ValueError(f"{file}: is a device; name a file, or `-` for standard input")
    try:
        with file.open("rb") as stream:
            return parse_questions(stream, str(file), system)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from error


def parse_questions(stream: BinaryIO, name: str, system: str | None = None) -> list[Question]:
    """Read lines of JSON; blank ones are passed over.

    Raises:
        ValueError: there are no rows, or some are no questions: names them by line.
    """
    questions: list[Question] = []
    problems: list[str] = []
    for number, line in enumerate(stream, 1):
        where = f"{name}: line {number}"
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            row = _row(line)
            questions.append(Question(where, row, messages_of(row, system)))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    refuse(problems, "nothing was answered")
    if not questions:
        raise ValueError(f'{name}: has no rows; each line is an object such as {{"prompt": "..."}}')
    return questions


def refuse(problems: Sequence[str], advice: str) -> None:
    """Name the first problems and count the rest.

    Raises:
        ValueError: there are any.
    """
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(f"{'; '.join(problems[:SHOWN])}{more}; {advice}")


def messages_of(row: Row, system: str | None = None) -> list[dict[str, str]]:
    """The conversation of a row.

    Raises:
        ValueError: it has none that ends with the user, or a column that the answer needs.
    """
    if taken := [column for column in ANSWER_COLUMNS if column in row]:
        raise ValueError(
            f"has a column {taken[0]!r} already, which the answer would take; call it otherwise, "
            f"such as 'expected_{taken[0]}'"
        )
    if ("prompt" in row) == ("messages" in row):
        found = "has both" if "prompt" in row else f"found {sorted(row)}"
        raise ValueError(f"either `prompt` or `messages` is wanted ({found})")
    if "prompt" in row:
        messages = [{"role": "user", "content": _text(row["prompt"], "`prompt`")}]
    else:
        messages = _messages(row["messages"])
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    return messages


def encode(tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]) -> list[list[int]]:
    """Token ids of the questions under the chat template.

    Raises:
        ValueError: the template refuses some: names them by line.
    """
    try:
        return encode_prompts(tokenizer, [question.messages for question in questions])
    except TemplateError:
        problems = []
        for question in questions:
            try:
                encode_prompts(tokenizer, [question.messages])
            except TemplateError as error:
                problems.append(f"{question.where}: the chat template refuses it: {error}")
        refuse(problems, "nothing was answered")
        raise


def _row(line: bytes) -> Row:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"an object such as {{...}} is wanted, found {type(row).__name__}")
    return row


def _messages(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise ValueError("`messages` must be a list of {role, content}")
    messages = []
    for number, given in enumerate(value, 1):
        role = given.get("role") if isinstance(given, dict) else None
        if role not in ROLES:
            raise ValueError(
                f"message {number} needs a `role` of {', '.join(ROLES)}, found {role!r}"
            )
        content = _text(given.get("content"), f"the `content` of message {number}")
        messages.append({"role": role, "content": content})
    if messages[-1]["role"] != "user":
        raise ValueError(f"its last message is the {messages[-1]['role']}'s; the user's is wanted")
    return messages


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a text, found {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{what} is empty")
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
