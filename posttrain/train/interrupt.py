"""SIGTERM: the step at hand is finished and saved, and the stage then fails; it never succeeds.

A scheduler that takes a machine back sends SIGTERM and waits a while. Transformers' own answer to
it ends training as if all were well; ZenML's ends the process at once, with the last steps lost.
The process ends with the status of one that the signal ended, for a scheduler starts that again,
and not one that an error ended.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(SystemExit):
    """The stage was asked to end; its message says from where it continues."""

    code: int = 128 + signal.SIGTERM
    """Exit status of the process, where nobody catches it."""


class Interruption:
    """Whether SIGTERM has come. A stage looks at it where it could save."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.asked = True


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Turn SIGTERM into a request for a while; the handler before comes back.

    In another thread than the main one, to which Python gives no signals, nothing changes.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.signal(signal.SIGTERM, found.ask)
    try:
        yield found
    finally:
        signal.signal(signal.SIGTERM, before)
