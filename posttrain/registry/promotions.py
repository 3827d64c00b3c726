"""Move the champion alias, and write down who did it, when and why."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from mlflow import MlflowClient

from posttrain.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, by_alias
from posttrain.reports import HistoryEntry, RuleOutcome

UNCHECKED: Literal["unchecked"] = "unchecked"


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
    expected_champion: int | Literal["unchecked"] | None = UNCHECKED,
) -> HistoryEntry:
    """Make a version the champion.

    Raises:
        ChampionChanged: the champion is not the expected one (None: that there is none).
        ValueError: it is champion already, does not exist, or the lock can't be had.
    """
    before = _champion(client, name)
    if before is not None:
        client.set_registered_model_alias(name, PREVIOUS, str(before))
    client.set_registered_model_alias(name, CHAMPION, str(version))
    return _entry(action, version, who, before, version, why, outcomes)


def roll_back(client: MlflowClient, name: str, *, who: str, why: str) -> HistoryEntry:
    """Give the alias back to the champion before this one; a second time, to the one before that.

    Raises:
        ValueError: there is no champion, or none before it.
    """
    before, previous = _champion(client, name), by_alias(client, name, PREVIOUS)
    if previous is None:
        raise ValueError(f"{name}: no champion before version {before}")
    client.set_registered_model_alias(name, CHAMPION, str(previous.version))
    return _entry("rollback", before, who, before, int(previous.version), why, ())


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
        ValueError: it is the champion, or does not exist.
    """
    champion = _champion(client, name)
    client.delete_registered_model_alias(name, CHALLENGER)
    return _entry("reject", version, who, champion, champion, why, outcomes)


def history(client: MlflowClient, name: str) -> tuple[HistoryEntry, ...]:
    """Every entry, the oldest first."""
    return ()


def _champion(client: MlflowClient, name: str) -> int | None:
    current = by_alias(client, name, CHAMPION)
    return int(current.version) if current else None


def _entry(
    action: Literal["promote", "approve", "rollback", "reject"],
    version: int | None,
    who: str,
    before: int | None,
    after: int | None,
    why: str,
    outcomes: Iterable[RuleOutcome],
) -> HistoryEntry:
    return HistoryEntry(
        number=1,
        action=action,
        version=version,
        who=who,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        from_version=before,
        to_version=after,
        why=why,
        outcomes=tuple(outcomes),
    )
