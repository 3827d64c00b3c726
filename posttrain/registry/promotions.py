"""Move the champion alias and write down who did it, when, from what to what, and why.

Everything happens under the lock of the model (`lock.py`), in this order: settle what a killed
process left; write the line as begun (`history.py`); alias `previous`; alias `champion`; line done.
So a kill between any two writes leaves the old champion or the new one, and the next decision makes
line and `previous` agree with it.

`previous` is what a rollback would bring back: the champion before this one, less what was taken
back or rejected since. Rolled back twice, the registry goes two champions back, not to and fro.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from mlflow import MlflowClient

from posttrain.decisions import HistoryEntry, RuleOutcome
from posttrain.registry import history as lines
from posttrain.registry.lock import Lease, exclusive
from posttrain.registry.one_line import said
from posttrain.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, by_alias, resolve
from posttrain.registry.writes import patiently

Unchecked = Literal["unchecked"]
UNCHECKED: Unchecked = "unchecked"

log = logging.getLogger(__name__)


class ChampionChanged(ValueError):
    """Another promotion took place in between."""


def move(
    client: MlflowClient,
    name: str,
    version: int,
    *,
    action: Literal["promote", "approve"],
    who: str,
    why: str,
    outcomes: Iterable[RuleOutcome] = (),
    expected_champion: int | Unchecked | None = UNCHECKED,
) -> HistoryEntry:
    """Make a version the champion.

    Raises:
        ChampionChanged: the champion is not the expected one (None: that there is none).
        ValueError: it is champion already, does not exist, or others hold the lock for long.
        LeaseLost: this process slept through its lock; the next decision settles what it left.
    """
    resolve(client, name, str(version))
    with decide(client, name, who, version) as state:
        return promoted(state, version, action, who, why, outcomes, expected_champion)


def roll_back(
    client: MlflowClient,
    name: str,
    *,
    who: str,
    why: str,
    expected_champion: int | Unchecked | None = UNCHECKED,
) -> HistoryEntry:
    """Give the alias back to the champion before this one; a second time, to the one before that.

    What was rejected, taken back before, or deleted from the registry, is passed over.

    Raises:
        ChampionChanged: the champion is not the one that was to be taken back.
        ValueError: there is no champion, none before it, or others hold the lock for long.
        LeaseLost: this process slept through its lock; the next decision settles what it left.
    """
    anchor = by_alias(client, name, CHAMPION)
    if anchor is None:
        raise ValueError(f"{name}: there is no champion to take back")
    with decide(client, name, who, int(anchor.version)) as state:
        _check_expected(name, state.champion, expected_champion)
        target = _before(state.lease, state.entries)
        if target is None:
            raise ValueError(
                f"{name}: no champion before {_version(state.champion)} that could take over; "
                "promote another version in its place"
            )
        entry = _entry("rollback", state.champion, who, state.champion, target, why, ())
        return state.carry_out(entry, target)


def reject(
    client: MlflowClient,
    name: str,
    version: int,
    *,
    who: str,
    why: str,
    outcomes: Iterable[RuleOutcome] = (),
) -> HistoryEntry:
    """Write down that a version is not wanted, and take the challenger alias off it.

    Raises:
        ValueError: it is the champion, does not exist, or others hold the lock for long.
        LeaseLost: this process slept through its lock; the next decision settles what it left.
    """
    resolve(client, name, str(version))
    with decide(client, name, who, version) as state:
        if state.champion == version:
            raise ValueError(
                f"{name}: version {version} is the champion; take it back by a rollback"
            )
        champion = state.champion
        return state.carry_out(
            _entry("reject", version, who, champion, champion, why, outcomes), version
        )


def history(client: MlflowClient, name: str) -> tuple[HistoryEntry, ...]:
    """Every line, the oldest first; `state` says which were not carried out."""
    return lines.read(client, name)


def champion_of(client: MlflowClient, name: str) -> int | None:
    """Number of the champion, by the alias."""
    current = patiently(lambda: by_alias(client, name, CHAMPION))
    return int(current.version) if current else None


@dataclass(frozen=True)
class Settled:
    """The registry under its lock, with nothing begun in it."""

    lease: Lease
    entries: tuple[HistoryEntry, ...]
    champion: int | None

    def carry_out(self, entry: HistoryEntry, source: int) -> HistoryEntry:
        """Begin the line, move the aliases, end the line."""
        entry = lines.write(self.lease, entry, source)
        _point(self.lease, PREVIOUS, _before(self.lease, (*self.entries, entry)))
        if entry.to_version != entry.from_version:
            _point(self.lease, CHAMPION, entry.to_version)
        _forget_rejected(self.lease, entry)
        return lines.close(self.lease, entry, "done")


def promoted(
    state: Settled,
    version: int,
    action: Literal["promote", "approve"],
    who: str,
    why: str,
    outcomes: Iterable[RuleOutcome],
    expected_champion: int | Unchecked | None,
) -> HistoryEntry:
    """The line of a promotion, carried out; for those who hold the lock already.

    Raises:
        ChampionChanged: the champion is not the expected one.
        ValueError: the version is champion already.
    """
    name, champion = state.lease.name, state.champion
    if champion == version:
        raise ValueError(f"{name}: version {version} is the champion already")
    _check_expected(name, champion, expected_champion)
    entry = _entry(action, version, who, champion, version, why, outcomes)
    return state.carry_out(entry, version)


def refused(
    state: Settled, version: int, who: str, why: str, outcomes: Iterable[RuleOutcome]
) -> HistoryEntry:
    """The line of a version that the gate did not let pass; the champion stays."""
    now = state.champion
    return state.carry_out(_entry("refuse", version, who, now, now, why, outcomes), version)


def _check_expected(name: str, champion: int | None, expected: int | Unchecked | None) -> None:
    if expected not in (UNCHECKED, champion):
        raise ChampionChanged(
            f"{name}: the champion is {_version(champion)}, and was expected to be "
            f"{_version(expected)}: somebody decided meanwhile; look again"
        )


@contextmanager
def decide(client: MlflowClient, name: str, who: str, source: int) -> Iterator[Settled]:
    """Take the lock and settle what is there: lines that were begun, aliases moved past us.

    `source` is a version that exists.
    """
    with exclusive(client, name, said(who, "who decides")) as lease:
        entries = tuple(_settled(lease, entry) for entry in lines.read(client, name))
        champion = champion_of(client, name)
        for entry in _outside(client, name, entries, champion):
            entries += (lines.write(lease, entry, source),)
        _point(lease, PREVIOUS, _before(lease, entries))
        yield Settled(lease, entries, champion)


def _settled(lease: Lease, entry: HistoryEntry) -> HistoryEntry:
    """A begun line, by what the champion alias says; a rejection is carried out."""
    if entry.state != "begun":
        return entry
    _forget_rejected(lease, entry)
    stays = entry.action in ("reject", "refuse")
    done = stays or champion_of(lease.client, lease.name) == entry.to_version
    log.warning(
        "%s: line %d of the history, begun by %s, was cut short: %s",
        lease.name,
        entry.number,
        entry.who,
        "finished now" if done else "the champion had not moved; marked as undone",
    )
    return lines.close(lease, entry, "done" if done else "undone")


def _outside(
    client: MlflowClient, name: str, entries: tuple[HistoryEntry, ...], champion: int | None
) -> Iterator[HistoryEntry]:
    """Lines for what happened to the alias past us, or before there was a history."""
    known = lines.champions(entries)
    last = known[-1] if known else None
    if champion == last:
        return
    if not entries and (before := by_alias(client, name, PREVIOUS)) is not None:
        first = int(before.version)
        if first != champion:
            yield _entry("outside", first, "unknown", None, first, "before the history began", ())
            last = first
    why = "the alias was moved past posttrain" if entries else "before the history began"
    yield _entry("outside", champion, "unknown", last, champion, why, ())


def _before(lease: Lease, entries: tuple[HistoryEntry, ...]) -> int | None:
    """The champion to go back to: the newest before the present one that is there and wanted."""
    for number in reversed(lines.champions(entries)[:-1]):
        if number is None:
            continue
        last = lines.decision(entries, number)
        unwanted = last is not None and last.action in ("reject", "rollback")
        if not unwanted and _exists(lease, number):
            return number
    return None


def _exists(lease: Lease, number: int) -> bool:
    found = patiently(lambda: lease.client.search_model_versions(f"name='{lease.name}'"))
    return any(int(version.version) == number for version in found)


def _point(lease: Lease, alias: str, number: int | None) -> None:
    """Point an alias to a version, or remove it; no write where it is so already."""
    client, name = lease.client, lease.name
    now = patiently(lambda: by_alias(client, name, alias))
    if (int(now.version) if now else None) == number:
        return
    if number is None:
        lease.write(lambda: client.delete_registered_model_alias(name, alias))
    else:
        lease.write(lambda: client.set_registered_model_alias(name, alias, str(number)))


def _forget_rejected(lease: Lease, entry: HistoryEntry) -> None:
    """What is rejected no longer stands for promotion."""
    if entry.action != "reject":
        return
    standing = by_alias(lease.client, lease.name, CHALLENGER)
    if standing is not None and int(standing.version) == entry.version:
        _point(lease, CHALLENGER, None)


def _entry(
    action: Literal["promote", "approve", "rollback", "reject", "refuse", "outside"],
    version: int | None,
    who: str,
    before: int | None,
    after: int | None,
    why: str,
    outcomes: Iterable[RuleOutcome],
) -> HistoryEntry:
    """A line to be written; whatever a name or a reason holds, it stays one line."""
    return HistoryEntry(
        number=0,  # the store gives it
        action=action,
        version=version,
        who=said(who, "who decides"),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        from_version=before,
        to_version=after,
        why=said(why, "the reason"),
        outcomes=tuple(outcomes),
        state="done" if action == "outside" else "begun",
    )


def _version(number: int | str | None) -> str:
    return "no version" if number is None else f"version {number}"
