"""Raters' files as verdicts: our own JSONL, Label Studio's exports and Argilla's.

A row says by its columns which tool it comes from. What can't be used is a problem with its place
and reason; nothing is passed over in silence.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Choice = Literal["response_1", "response_2", "tie"]
Reason = Literal["malformed", "unanswered", "skipped", "unknown pair", "other texts", "replaced"]

QUESTION = "choice"
"""Name of the column, of Label Studio's control and of Argilla's question."""

WORDS: dict[Any, Choice] = {
    **dict.fromkeys(("response_1", "1", 1, "left"), "response_1"),
    **dict.fromkeys(("response_2", "2", 2, "right"), "response_2"),
    "tie": "tie",
}
"""How a choice may be written; `left` and `right` are those of Label Studio's Pairwise."""

TEXTS = ("response_1", "response_2")


@dataclass(frozen=True)
class Place:
    """Where a row stands: a line of JSONL, or an item of a JSON list, counted from 1."""

    file: str
    number: int
    is_item: bool


@dataclass(frozen=True)
class Problem:
    """A row, or one rater's answer in it, that does not count."""

    place: Place
    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """What one rater said of one pair."""

    place: Place
    pair_id: str
    rater: str
    """The tool's id of the rater, or the file where it names none; never written anywhere."""

    choice: Choice
    when: str
    """The tool's time of the answer, in ISO 8601; empty where the row holds none."""

    texts: tuple[tuple[str, str], ...]
    """The answers that the rater saw, by column, where the row holds them."""


@dataclass(frozen=True)
class Answer:
    """What one rater said, as it stands in the row."""

    value: Any
    rater: str = ""
    when: str = ""


class Unusable(Exception):
    """An answer that does not count, and why."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail)
        self.reason: Reason = reason


def read_verdicts(files: Sequence[Path]) -> tuple[list[Verdict], list[Problem]]:
    """Every rater's answers in the order of the files, and what could not be used.

    Raises:
        ValueError: a file can't be read, or is neither JSON lines nor a JSON list.
    """
    verdicts: list[Verdict] = []
    problems: list[Problem] = []
    for file in files:
        for place, row in _rows(file):
            if not isinstance(row, dict):
                problems.append(Problem(place, "malformed", "no JSON object"))
                continue
            pair_id, texts, answers = _answers(row)
            if not pair_id:
                problems.append(Problem(place, "malformed", "no pair_id"))
                continue
            if not answers:
                problems.append(Problem(place, "unanswered"))
            for one in answers:
                try:
                    choice = _choice(one.value)
                except Unusable as error:
                    problems.append(Problem(place, error.reason, str(error)))
                else:
                    rater = one.rater or str(file)
                    verdicts.append(Verdict(place, pair_id, rater, choice, one.when, texts))
    return verdicts, problems


def _rows(file: Path) -> Iterator[tuple[Place, Any]]:
    """Rows with their places; a line that is no JSON comes as None."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: is no whole JSON list: {error}") from error
        for number, item in enumerate(items, 1):
            yield Place(file.name, number, is_item=True), item
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Place(file.name, number, is_item=False), _parsed(line)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _answers(row: dict[str, Any]) -> tuple[str, tuple[tuple[str, str], ...], list[Answer]]:
    """Pair id, texts that were shown, and each rater's answer."""
    data, annotations = row.get("data"), row.get("annotations")
    if isinstance(data, dict) and isinstance(annotations, list):  # Label Studio, JSON
        return _pair_id(data), _texts(data), [_annotation(one) for one in annotations]
    fields, responses = row.get("fields"), row.get("responses")
    if isinstance(fields, dict) and isinstance(responses, dict):  # Argilla, to_json
        said = [one for one in responses.get(QUESTION) or [] if isinstance(one, dict)]
        answers = [Answer(one.get("value"), _name(one.get("user_id"))) for one in said]
        return _pair_id(row), _texts(fields), answers
    flat = row.get(f"{QUESTION}.responses")
    if isinstance(flat, list):  # Argilla, to_list(flatten=True) and to_datasets
        return _pair_id(row), _texts(row), _flat(row, flat)
    value = row.get(QUESTION)  # ours; Label Studio, JSON-MIN
    rater, when = row.get("rater", row.get("annotator")), row.get("updated_at")
    answered = [] if value in (None, "") else [Answer(value, _name(rater), _name(when))]
    return _pair_id(row), _texts(row), answered


def _name(value: Any) -> str:
    return "" if value is None else str(value)


def _pair_id(row: dict[str, Any]) -> str:
    found = row.get("pair_id") or row.get("id")  # Argilla's own id is ours
    return found if isinstance(found, str) else ""


def _texts(row: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, row[name]) for name in TEXTS if isinstance(row.get(name), str))


def _annotation(one: Any) -> Answer:
    """One annotator's answer to a task of Label Studio."""
    if not isinstance(one, dict):
        return Answer(Unusable("malformed", "an annotation is no object"))
    by = one.get("completed_by")
    rater, when = _name(by.get("id") if isinstance(by, dict) else by), _name(one.get("updated_at"))
    if one.get("was_cancelled"):
        return Answer(Unusable("skipped"), rater)
    results = [result for result in one.get("result") or [] if isinstance(result, dict)]
    values = [result.get("value") for result in results if result.get("from_name") == QUESTION]
    if results and not values:
        found = sorted({str(result.get("from_name")) for result in results})
        why = f"no control is called {QUESTION!r} (found: {found})"
        return Answer(Unusable("malformed", why), rater)
    return Answer(values, rater, when)


def _flat(row: dict[str, Any], values: list[Any]) -> list[Answer]:
    """Each user's answer of a flattened record of Argilla; what is not submitted is skipped."""
    users = row.get(f"{QUESTION}.responses.users") or [None] * len(values)
    states = row.get(f"{QUESTION}.responses.status") or ["submitted"] * len(values)
    if not len(values) == len(users) == len(states):
        return [Answer(Unusable("malformed", "responses, users and status differ in number"))]
    return [
        Answer(value if state == "submitted" else Unusable("skipped", str(state)), _name(user))
        for value, user, state in zip(values, users, states, strict=True)
    ]


def _choice(answer: Any) -> Choice:
    """An answer in the words of any tool."""
    if isinstance(answer, Unusable):
        raise answer
    if isinstance(answer, dict):  # the value of Label Studio's Choices or Pairwise
        answer = answer.get("choices", answer.get("selected"))
    if isinstance(answer, list) and len(answer) == 1:
        return _choice(answer[0])
    if answer in (None, "", []):
        raise Unusable("unanswered")
    if isinstance(answer, (str, int)) and not isinstance(answer, bool) and answer in WORDS:
        return WORDS[answer]
    raise Unusable(
        "malformed", f"{QUESTION} is {str(answer)[:40]!r}; wanted: {sorted(TEXTS)} or tie"
    )
