"""A program on a pseudo-terminal: what a person would type and see."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 60.0
"""Seconds to wait for something to appear; a busy machine starts slowly."""


class Terminal:
    """A program with a terminal of its own, of which it is the foreground process."""

    def __init__(self, *command: str, columns: int = 80, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        variables = {"TERM": "dumb", "LANG": "C.UTF-8", "PYTHONPATH": str(Path.cwd())}
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**inherited, **variables, **environment},
        )
        os.close(slave)
        self._bytes = b""
        self._read_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> str:
        """What appeared since the last call, up to and including the pattern."""
        deadline = time.monotonic() + PATIENCE
        while True:
            new = self._bytes[self._read_to :].decode("utf-8", "ignore").replace("\r\n", "\n")
            if found := re.search(pattern, new):
                text = new[: found.end()]
                raw = text.replace("\n", "\r\n").encode()
                self._read_to += len(raw)
                return text
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(0.0, left))
            assert ready, f"{pattern!r} did not appear; there was {new!r}"
            try:
                self._bytes += os.read(self._master, 4096)
            except OSError as error:  # Linux's way to say that the other side is closed
                raise AssertionError(f"ended without {pattern!r}; there was {new!r}") from error

    def ended(self) -> int:
        """The exit status, once it has ended; what it still writes is read away."""
        try:
            while os.read(self._master, 4096):
                pass
        except OSError:
            pass
        return self.process.wait(PATIENCE)
