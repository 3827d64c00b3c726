"""The promotion history: a line a decision, which MLflow keeps and numbers.

The lines are the versions of a registered model of their own, `NAME-history`. MLflow gives each the
next number in the write that creates it, with its tags, and gives no number twice: a line is never
half written or written over, and one that somebody deletes leaves a gap that shows.

A line is the journal too: it is written as `begun` before an alias moves, and marked `done` after.
What a kill leaves begun, the next decision settles (`promotions.py`): `done` where the champion
alias points to what the line says, else `undone`, and the old champion stays.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

import pydantic
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from posttrain.decisions import HistoryEntry, RuleOutcome
from posttrain.registry.lock import Lease
from posttrain.registry.one_line import one_line
from posttrain.registry.versions import ensure_model, history_name
from posttrain.registry.writes import patiently

ENTRY, STATE, ID, LOCK = "entry", "state", "id", "lock"
"""Tags of a line: what it says, whether it was carried out, by which call, under which lock."""

PAGE = 1000
LONGEST_DESCRIPTION = 1000
DONE = {
    "promote": "made champion",
    "approve": "approved as champion",
    "rollback": "taken back",
    "reject": "rejected",
    "refuse": "refused",
    "outside": "found as champion",
}


def read(client: MlflowClient, name: str) -> tuple[HistoryEntry, ...]:
    """Every line, the oldest first, undone ones too."""
    entries, ids = [], set()
    for line in sorted(_lines(client, name), key=lambda one: int(one.version)):
        # a server that wrote a line and lost the answer is asked again by MLflow's client
        state = "undone" if line.tags[ID] in ids else line.tags[STATE]
        ids.add(line.tags[ID])
        entries.append(_entry(line, state))
    return tuple(entries)


def _entry(line: ModelVersion, state: str) -> HistoryEntry:
    """What was decided, in any case: outcomes of another release, with other fields, are left."""
    said = {**json.loads(line.tags[ENTRY]), "number": int(line.version), "state": state}
    said |= {key: one_line(said[key]) for key in ("who", "why")}  # MLflow's page writes tags too
    try:
        return HistoryEntry.model_validate(said)
    except pydantic.ValidationError:
        return HistoryEntry.model_validate({**said, "outcomes": ()})


def write(lease: Lease, entry: HistoryEntry, source: int) -> HistoryEntry:
    """Add a line, with the number that it gets; `source` is a version that exists.

    Raises:
        LeaseLost: the lock is another's; nothing is written.
    """
    client, kept, key = lease.client, history_name(lease.name), uuid.uuid4().hex
    tags = {
        ENTRY: entry.model_dump_json(exclude={"number", "state"}),
        STATE: entry.state,
        ID: key,
        LOCK: str(lease.number),
    }

    def once() -> ModelVersion:
        written = client.search_model_versions(f"name='{kept}' and tags.{ID}='{key}'")
        return (
            next(iter(written), None)
            or client.create_model_version(
                kept,
                f"models:/{lease.name}/{source}",  # MLflow asks for a place that exists
                tags=tags,
                description=sentence(entry)[:LONGEST_DESCRIPTION],
                await_creation_for=0,
            )
        )

    lease.write(lambda: ensure_model(client, kept))
    return entry.model_copy(update={"number": int(lease.write(once).version)})


def close(lease: Lease, entry: HistoryEntry, state: Literal["done", "undone"]) -> HistoryEntry:
    """Mark a begun line.

    Raises:
        LeaseLost: the lock is another's; nothing is written.
    """
    kept, number = history_name(lease.name), str(entry.number)
    lease.write(lambda: lease.client.set_model_version_tag(kept, number, STATE, state))
    return entry.model_copy(update={"state": state})


def champions(entries: Iterable[HistoryEntry]) -> tuple[int | None, ...]:
    """Who was champion before whom, the present one last: what is taken back is off it again.

    None where the alias was removed for a while.
    """
    stack: list[int | None] = []
    for entry in entries:
        if entry.state == "undone" or entry.from_version == entry.to_version:
            continue
        if entry.action == "rollback":
            while stack and stack[-1] != entry.to_version:
                stack.pop()
        if stack[-1:] != [entry.to_version]:
            stack.append(entry.to_version)
    return tuple(stack)


def decision(entries: Iterable[HistoryEntry], version: int) -> HistoryEntry | None:
    """The last line about a version, or None; undone ones do not count, nor the gate's refusals.

    A refusal settles nothing: measured anew, or beside another champion, a version may pass.
    """
    about = [one for one in _about(entries, version) if one.action != "refuse"]
    return about[-1] if about else None


def is_refused_already(
    entries: Iterable[HistoryEntry], version: int, outcomes: tuple[RuleOutcome, ...]
) -> bool:
    """Whether the last line about a version says the same: a repeated run adds none."""
    about = _about(entries, version)
    return bool(about) and about[-1].action == "refuse" and about[-1].outcomes == outcomes


def _about(entries: Iterable[HistoryEntry], version: int) -> list[HistoryEntry]:
    return [one for one in entries if one.version == version and one.state != "undone"]


def doubts(entries: tuple[HistoryEntry, ...], champion: int | None) -> tuple[str, ...]:
    """What does not fit together, in words: gaps, lines that do not follow, another champion."""
    return tuple(_doubts(entries, champion))


def _doubts(entries: tuple[HistoryEntry, ...], champion: int | None) -> Iterator[str]:
    carried_out = [entry for entry in entries if entry.state == "done"]
    missing = {*range(1, entries[-1].number + 1)} - {e.number for e in entries} if entries else ()
    if missing:
        yield f"lines were deleted from the history: {', '.join(map(str, sorted(missing)))}"
    for before, after in pairwise(carried_out):
        if after.from_version != before.to_version:
            yield (
                f"line {after.number} begins at {_version(after.from_version)}, and line "
                f"{before.number} ended at {_version(before.to_version)}"
            )
    begun = [entry for entry in entries if entry.state == "begun"]
    for entry in begun:
        yield (
            f"line {entry.number} was begun by {entry.who} and is not finished; unless it is being "
            "carried out just now, the next decision settles it"
        )
    last = carried_out[-1].to_version if carried_out else None
    if entries and not begun and champion != last:
        yield (
            f"the champion is {_version(champion)}, and the history ends at {_version(last)}: the "
            "alias was moved past posttrain; the next decision records it"
        )


def sentence(entry: HistoryEntry) -> str:
    """A line in words."""
    what = f"{_version(entry.version)} {DONE[entry.action]} by {entry.who}: {entry.why}"
    return what[0].upper() + what[1:]


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


def _lines(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = patiently(
            lambda token=token: client.search_model_versions(  # type: ignore[misc]
                f"name='{history_name(name)}'", max_results=PAGE, page_token=token
            )
        )
        yield from page
        token = page.token
        if not token:
            return
