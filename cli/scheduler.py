"""A clock of one machine: a command by cron, on APScheduler, its state in SQLite.

Runs never overlap. Those missed, while this process was down or a run took longer than the time
between two, become one. The state lies in SQLite, so that a restart knows what it missed.
"""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from filelock import FileLock, Timeout

WEEK = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = ("second", "minute", "hour", "day", "month", "day_of_week")
CACHED = "Using cached version of step"
"""What ZenML says of a step that it takes from the cache."""

REFUSED = "PromotionRefused:"
"""What the log of a run says that `promotion.on_refusal: fail` ended: its data and its model are as
they are, and another attempt would find the same."""

LOOK_SECONDS = 0.2
"""Between two looks at whether a signal has come."""

LOOKS_ANEW = 2
"""Steps that are never cached: `register` and `promote`, which ask the registry anew."""


class Plan(NamedTuple):
    """What is run, and when."""

    cron: str
    command: tuple[str, ...]
    attempts: int
    pause_seconds: float
    folder: Path
    tells_of_cache: bool


class Asked:
    """What signals asked of this process, and the run that a second one is handed on to.

    No `threading.Event`: a handler that comes as `wait` takes its lock would wait for itself.
    """

    def __init__(self) -> None:
        self.to_end = False
        self.running: subprocess.Popen[bytes] | None = None

    def signal(self, number: int, frame: FrameType | None) -> None:
        """A handler."""
        again, self.to_end = self.to_end, True
        if again and self.running is not None:
            self.running.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = math.inf) -> None:
        """Until a signal asks to end, or the time is over."""
        end = time.monotonic() + seconds
        while not self.to_end and time.monotonic() < end:
            time.sleep(min(LOOK_SECONDS, seconds))


ASKED = Asked()


def trigger(cron: str) -> CronTrigger:
    """When to run, in the machine's time zone.

    Raises:
        ValueError: the expression has not five or six fields, or one of them says nothing.
    """
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise ValueError(
            f"--cron {cron!r} has {len(fields)} fields; five are wanted (minute, hour, day, month, "
            "day of week), or six with seconds first"
        )
    if len(fields) == 5:
        fields = ["0", *fields]
    try:
        fields[-1] = ",".join(_weekdays(fields[-1]))
        return CronTrigger(**dict(zip(FIELDS, fields, strict=True)))
    except ValueError as error:
        raise ValueError(f"--cron {cron!r}: {error}") from error


def _weekdays(field: str) -> Iterator[str]:
    """Names in place of numbers: crontab's week begins on Sunday, APScheduler's on Monday."""
    for part in field.split(","):
        days, _, step = part.partition("/")
        first, _, last = days.partition("-")
        if days == "*" and step:
            first, last = "0", "6"
        if not first.isdigit():
            yield part
            continue
        end = last or ("6" if step else first)
        for day in range(int(first), int(end) + 1, int(step or 1)):
            if day > len(WEEK):
                raise ValueError(f"day of week {day}: 0 to 7 are wanted, Sunday is 0 and 7")
            yield WEEK[day % len(WEEK)]


def keep(plan: Plan) -> None:
    """Run by the plan until SIGTERM or Ctrl-C.

    Raises:
        ValueError: the cron expression is none, or another process keeps this plan.
    """
    when = trigger(plan.cron)
    plan.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(str(plan.folder / "lock"), timeout=0), _signals():
            _keep(plan, when)
    except Timeout:
        raise ValueError(f"{plan.folder}: another process runs by this clock already") from None


def _keep(plan: Plan, when: CronTrigger) -> None:
    store = SQLAlchemyJobStore(url=f"sqlite:///{plan.folder}/schedule.sqlite")
    scheduler = BackgroundScheduler(jobstores={"default": store})
    scheduler.start(paused=True)
    known: Job | None = scheduler.get_job("run")
    if known is None or (str(known.trigger), known.args) != (str(when), (plan,)):
        known = scheduler.add_job(
            start,
            when,
            args=(plan,),
            id="run",
            replace_existing=True,
            coalesce=True,  # those missed become one
            max_instances=1,
            misfire_grace_time=None,  # late is better than not
        )
    _say(f"next run at {known.next_run_time}; logs in {plan.folder}")
    scheduler.resume()
    ASKED.wait()
    if ASKED.running is not None:
        _say("ending after the run in progress; once more hands SIGTERM on to it")
    scheduler.shutdown(wait=True)


def start(plan: Plan) -> None:
    """One run: again after a failure, as often as the plan says."""
    for attempt in range(1, plan.attempts + 1):
        if ASKED.to_end:
            return
        log = plan.folder / f"{datetime.now():%Y-%m-%dT%H-%M-%S.%f}.log"
        _say(f"attempt {attempt} of {plan.attempts}: {' '.join(plan.command)}; log {log}")
        with log.open("wb") as output:
            ASKED.running = subprocess.Popen(
                plan.command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C comes to us alone
            )
            status = ASKED.running.wait()
            ASKED.running = None
        text = log.read_text(encoding="utf-8", errors="replace")
        if status == 0:
            _say(done(plan, text))
            return
        _say(f"failed with status {status}")
        if REFUSED in text:
            _say("the gate refused its version: not started again")
            return
        if attempt < plan.attempts:
            # what it needs may be starting again itself: a server, a mount, the network
            ASKED.wait(plan.pause_seconds * 2 ** (attempt - 1))
    _give_up(plan, log)


def _give_up(plan: Plan, log: Path) -> None:
    """Tell of it, by the stack's alerter too: a run that was killed has told nobody."""
    words = f"gave up after {plan.attempts} attempts; log {log}"
    _say(words)
    if plan.tells_of_cache:  # a run of ours, on ZenML's stack
        from steps._alerts import post

        post(f"posttrain: {' '.join(plan.command)}: {words}")


def done(plan: Plan, text: str) -> str:
    """That it succeeded, and whether there was anything to do."""
    if not plan.tells_of_cache:
        return "done"
    started = text.count("has started.")
    if CACHED in text and started <= LOOKS_ANEW:
        return "done: nothing new in its data or settings, all but register and promote is cached"
    return "done"


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C ask to end."""
    before = {
        number: signal.signal(number, ASKED.signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}", file=sys.stderr, flush=True)
