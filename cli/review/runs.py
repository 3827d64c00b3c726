"""Runs of the pipeline `promotion` that wait for a person, as the page deals with them.

No browser waits until a run has gone on: the answer is handed over, and a thread sees to the rest.
A ZenML that does not answer takes nothing from the page but what it alone knows.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread

from cli.waiting import PATIENCE_SECONDS, Waiting, carried_out, waiting
from posttrain.approvals import Answer, wait_name

logger = logging.getLogger(__name__)

MOST_LISTED = 1000


class NoZenML(Exception):
    """ZenML is named and does not answer."""


class AnsweredBefore(Exception):
    """A run has another answer than the one that was given now."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.who)
        self.answer = answer


@dataclass(frozen=True)
class Asked:
    """What ZenML knows of a version that a run asks about."""

    waiting: Waiting | None = None
    answer: Answer | None = None
    """Of a run that has been answered and has not carried it out yet."""

    has_failed: bool = False
    """Whether the last run that was answered failed."""


def asked(name: str, version: int) -> Asked:
    """Whether a run waits, or goes on with its answer.

    Raises:
        NoZenML: it does not answer.
    """
    with _answering():
        if (found := waiting(name, version)) is not None:
            return Asked(waiting=found)
        return _answered(name, version)


def waiting_versions(name: str) -> list[int]:
    """Versions that runs ask about, the newest first.

    Raises:
        NoZenML: it does not answer.
    """
    from zenml.client import Client
    from zenml.enums import RunWaitConditionStatus

    with _answering():
        beginning = wait_name(name, 0).removesuffix("0")
        found = Client().list_run_wait_conditions(
            name=f"startswith:{beginning}",
            status=RunWaitConditionStatus.PENDING.value,
            size=MOST_LISTED,
            hydrate=True,
        )
        ends = {
            condition.name.removeprefix(beginning)
            for condition in found.items
            if not condition.run.status.is_finished
        }
    return sorted((int(end) for end in ends if end.isdecimal()), reverse=True)


def hand_over(found: Waiting, answer: Answer) -> None:
    """Answer a run, and see in a thread of its own that it goes on.

    Raises:
        NoZenML: it does not answer.
        AnsweredBefore: somebody else was first.
    """
    from zenml.client import Client
    from zenml.enums import RunWaitConditionResolution
    from zenml.exceptions import IllegalOperationError

    with _answering():
        given = found.answer
        if given is None:
            try:
                Client().resolve_run_wait_condition(
                    found.condition,
                    resolution=RunWaitConditionResolution.CONTINUE,
                    result=answer.model_dump(mode="json"),
                )
            except IllegalOperationError:  # another was first
                told = Client().zen_store.get_run_wait_condition(found.condition).result
                given = Answer.model_validate(told)
    if given is not None and given != Answer(**answer.model_dump()):
        raise AnsweredBefore(given)
    Thread(target=_see_to, args=(found,), daemon=True).start()


def _see_to(found: Waiting) -> None:
    """Resume a run that is paused; its failure is in the log and on ZenML's page."""
    try:
        entry = carried_out(found)
    except Exception:  # nobody waits for this thread
        logger.exception("%s was answered and did not go on", found.run)
    else:
        logger.info("%s: %s of version %s", found.run, entry.action, entry.version)


def _answered(name: str, version: int) -> Asked:
    from zenml.client import Client

    listed = Client().list_run_wait_conditions(
        name=wait_name(name, version), sort_by="desc:created", size=1, hydrate=True
    )
    for condition in listed.items:
        run = Client().get_pipeline_run(condition.run.id)
        if condition.result is None or condition.resolved_at is None:
            continue
        if run.status.is_failed:
            return Asked(has_failed=True)
        since = datetime.now(UTC) - condition.resolved_at.replace(tzinfo=UTC)
        # a run that was killed never finishes: after this time nobody counts on it any more
        if not run.status.is_finished and since < timedelta(seconds=PATIENCE_SECONDS):
            return Asked(answer=Answer.model_validate(condition.result))
    return Asked()


@contextmanager
def _answering() -> Iterator[None]:
    """Tell whatever ZenML's client raises where its server or its database is gone."""
    try:
        yield
    except Exception as error:  # it raises what requests, SQLAlchemy and ZenML each have
        logger.warning("ZenML does not answer: %s: %s", type(error).__name__, error)
        raise NoZenML(str(error)) from error
