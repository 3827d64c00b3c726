"""One process at a time decides about a registered model.

MLflow's store has one operation that only one of two can succeed in: creating a registered model,
whose name is a unique key, on SQLite as behind a server. A lock is a row of such models,
`NAME-lock-000001`, `NAME-lock-000002`, ...: **the highest one that exists is the lock**, and who
created it holds it until it bears the tag `released` or its lease is over. To take the lock is to
create the next number.

Why no two hold it, step by step (n is the highest number that a process saw):

- Two see n released, or over, and both create n+1: the key lets one through.
- One saw n and slept; meanwhile n+1 was taken, released and removed, and n+2 stands. It creates
  n+1, which exists no more, then looks again, finds n+2 above its own and has lost. The highest is
  never removed, so this look can't miss.
- A look tells names of one moment, but tags of a later one. A name that has lost its tags was
  removed meanwhile; the look is then repeated, as it may have missed the highest.
- Old numbers are removed by whoever holds a higher one: they are below the highest, so nobody holds
  them, and what a sleeper may have created anew under such a name is below the highest too. Nothing
  is renamed, and nothing is deleted that somebody could hold.
- Release is a tag on a number of one's own. Where another has taken over, it stands on a number
  below the highest, or fails on one that is gone: either way the other's lock stays.
- A creation that was carried out and whose answer was lost is tried again and found to exist: the
  token among its tags says whose it is.
- Leases compare no clocks of two machines: whoever waits has seen the same number for the whole
  lease by its own monotonic clock. A killed holder therefore costs others that long.
- A holder that slept past its lease looks before each write, and each time that one is tried
  again, whether its number is the highest, and that two thirds of its lease are left
  (`Lease.write`): 30 s, more than SQLite waits for a locked file.

What this does not promise: between that look and the write, time passes. A write that is carried
out later than two thirds of a lease after its look (a machine that sleeps just then, a proxy that
holds a request back, MLflow's own client that repeats one for minutes while a server fails) may
follow another holder's; MLflow's aliases can't refuse it. Nor does it bind those
who write by MLflow's own pages, and a store that reads from a lagging replica is no ground for it.
"""

import logging
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from posttrain.registry.versions import lock_prefix
from posttrain.registry.writes import GONE, Result, patiently

LEASE_SECONDS = 45.0
WRITING = 1 / 3
"""Share of the lease in which writes may start."""

PATIENCE_SECONDS = 120.0
"""How long to wait for others; longer than a lease, so that a dead holder's is waited out."""

PAUSE_SECONDS = 0.3
"""Mean time between two looks at a lock that another holds."""

TELL_SECONDS = 3.0
"""Before others are told whom they wait for."""

PAGE = 1000
LOOKS = 20
"""At locks, until none is removed between two reads of the store."""

RELEASED, TOKEN, WHO, SINCE, LEASE = "released", "token", "who", "since", "lease_seconds"

log = logging.getLogger(__name__)


class LeaseLost(ValueError):
    """The lock is another's by now, or may be before the next write arrives."""


@dataclass(frozen=True)
class Lease:
    """The lock, as long as it is held."""

    client: MlflowClient
    name: str
    number: int
    started: float
    """By the monotonic clock, before the lock was asked for."""

    seconds: float

    def write(self, call: Callable[[], Result]) -> Result:
        """The call's result, after a look at the lock; both again where the store was busy.

        Raises:
            LeaseLost: another has it, or it may be another's before the write arrives.
        """

        def checked() -> Result:
            self.check()
            return call()

        return patiently(checked)

    def check(self) -> None:
        """Look whether the lock is still ours, and for long enough to write.

        Raises:
            LeaseLost: it is not.
        """
        highest = _highest(self.client, self.name)
        if highest is None or _number(highest) != self.number:
            raise LeaseLost(f"{self.name}: another took the lock over; nothing more was written")
        held = time.monotonic() - self.started
        if held > self.seconds * WRITING:
            raise LeaseLost(
                f"{self.name}: the lock has been held for {held:.1f} s of {self.seconds:g} s; too "
                "long to write on; nothing more was written"
            )


@contextmanager
def exclusive(
    client: MlflowClient,
    name: str,
    who: str,
    lease_seconds: float | None = None,
    patience_seconds: float | None = None,
) -> Iterator[Lease]:
    """Hold the lock of a registered model, for LEASE_SECONDS at most where no time is given.

    Raises:
        ValueError: others hold it for longer than `patience_seconds`; says who.
    """
    lease = _acquire(
        client, name, who, lease_seconds or LEASE_SECONDS, patience_seconds or PATIENCE_SECONDS
    )
    try:
        yield lease
    finally:
        _release(lease)


def held(client: MlflowClient, name: str) -> str | None:
    """Who holds the lock of a registered model now, since when and for how long; None: nobody."""
    highest = _highest(client, name)
    if highest is None or RELEASED in highest.tags:
        return None
    return f"{_holder(highest)}, for {highest.tags[LEASE]} s at most"


def _acquire(
    client: MlflowClient, name: str, who: str, lease_seconds: float, patience_seconds: float
) -> Lease:
    start = time.monotonic()
    seen, seen_since, told = 0, start, False
    while True:
        highest = _highest(client, name)
        number = _number(highest) if highest else 0
        now = time.monotonic()
        if number != seen:
            seen, seen_since = number, now
        over = highest is not None and now - seen_since > float(highest.tags[LEASE])
        free = highest is None or RELEASED in highest.tags or over
        if free and _create(client, name, number + 1, who, lease_seconds):
            if highest is not None and over and RELEASED not in highest.tags:
                log.warning("%s: took over the lock of %s", name, _holder(highest))
            return Lease(client, name, number + 1, now, lease_seconds)
        if now - start > patience_seconds:
            raise ValueError(
                f"{name}: others decide about this model since {patience_seconds:g} s, now "
                f"{_holder(highest)}; try again later"
            )
        if not told and now - start > TELL_SECONDS:
            told = True
            log.warning("%s: waiting for %s", name, _holder(highest))
        time.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))


def _create(client: MlflowClient, name: str, number: int, who: str, lease_seconds: float) -> bool:
    """Whether the lock of this number is ours; older numbers are then removed."""
    lock, token = f"{lock_prefix(name)}{number:06d}", uuid.uuid4().hex
    tags = {
        TOKEN: token,
        WHO: who,
        SINCE: datetime.now(UTC).isoformat(timespec="seconds"),
        LEASE: str(lease_seconds),
    }
    about = f"Held while the champion of {name} changes; posttrain removes it. Not a model."
    try:
        patiently(lambda: client.create_registered_model(lock, tags, about))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", *GONE):
            raise
    locks = _locks(client, name)
    highest = max(locks, key=_number, default=None)
    mine = highest is not None and _number(highest) == number and highest.tags[TOKEN] == token
    for old in locks:
        # of those who lost, each removes its own; the winner removes all below
        if _number(old) < number if mine else old.tags[TOKEN] == token:
            _remove(client, old.name)
    return mine


def _release(lease: Lease) -> None:
    lock = f"{lock_prefix(lease.name)}{lease.number:06d}"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(MlflowException):  # gone: another took over; else the lease runs out
        patiently(lambda: lease.client.set_registered_model_tag(lock, RELEASED, at))


def _remove(client: MlflowClient, lock: str) -> None:
    """Another may be quicker, and where MLflow asks for permissions, it may be another's."""
    with suppress(MlflowException):
        client.delete_registered_model(lock)


def _highest(client: MlflowClient, name: str) -> RegisteredModel | None:
    return max(_locks(client, name), key=_number, default=None)


def _locks(client: MlflowClient, name: str) -> list[RegisteredModel]:
    """Every lock of the model, as they stood at one moment.

    The store reads names first and tags after: one without tags was removed in between, so a
    higher one stands that this look has not seen.
    """
    prefix = lock_prefix(name)
    for _ in range(LOOKS):
        # LIKE reads an underscore in a name as any character
        found = [
            one
            for one in _named(client, f"name LIKE '{prefix}%'")
            if re.fullmatch(re.escape(prefix) + r"\d{6,}", one.name)
        ]
        if all(TOKEN in one.tags for one in found):
            return found
    bare = ", ".join(one.name for one in found if TOKEN not in one.tags)
    raise ValueError(
        f"{name}: the registered models {bare} are named as its locks are and are none; delete or "
        "rename them"
    )


def _named(client: MlflowClient, filter_string: str) -> list[RegisteredModel]:
    """Every page; the last name first, so that the highest lock is told of the first moment.

    What is removed between two pages is lower, and moves none that is still to come past us.
    """
    found: list[RegisteredModel] = []
    token = None
    while True:
        page = patiently(
            lambda token=token: client.search_registered_models(  # type: ignore[misc]
                filter_string, max_results=PAGE, order_by=["name DESC"], page_token=token
            )
        )
        found += page
        token = page.token
        if not token:
            return found


def _number(lock: RegisteredModel) -> int:
    return int(lock.name.rpartition("-")[2])


def _holder(lock: RegisteredModel | None) -> str:
    if lock is None:
        return "somebody whose lock the store does not tell of"
    return f"{lock.tags[WHO]} (since {lock.tags[SINCE]}, {lock.name})"
