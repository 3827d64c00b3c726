"""Who started a run: which process of which machine, by which command, and whether it still lives.

It is called dead where that is certain. A process number means nothing on another machine, in
another container, or after a restart of the machine, and after a while the system gives it to
another process: so all of these are kept with it.
"""

import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Literal

import psutil

from posttrain.recipe.section import Section

BOOT, NAMESPACE, MACHINE = "/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid", "/etc/machine-id"

Fate = Literal["alive", "dead", "unknown"]


class Started(Section):
    """A process, as it saw itself."""

    host: str
    machine: str
    """The installation's id; empty where the system has none."""

    boot: str
    """Another one after each start of the machine."""

    namespace: str
    """Process numbers count within it: a container has one of its own."""

    pid: int
    began: str
    """When it started, by the kernel's clock, which nobody sets; empty where it is not told."""

    command: str
    folder: str
    """Where the command was given."""

    @classmethod
    def here(cls) -> "Started":
        """This process."""
        words = [Path(sys.argv[0]).name, *sys.argv[1:]]
        return cls(
            **_machine(),
            pid=os.getpid(),
            began=_began(os.getpid()),
            command=shlex.join(words),
            folder=str(Path.cwd()),
        )

    @property
    def go_on(self) -> str:
        """The command that starts the same run again, wherever it is typed."""
        return f"cd {shlex.quote(self.folder)} && {self.command}"

    def fate(self, *, store_is_local: bool) -> Fate:
        """What became of the process.

        Args:
            store_is_local: whether what is asked about lies in a file of this machine: then a
                process of an earlier start of the machine is dead, and not one of a twin's.
        """
        here = _machine()
        if self.boot != here["boot"]:
            same = (self.host, self.machine) == (here["host"], here["machine"])
            return "dead" if same and store_is_local else "unknown"
        if self.namespace != here["namespace"]:
            return "unknown"
        try:
            if psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:
                return "dead"
        except psutil.NoSuchProcess:
            return "dead"
        return "alive" if _began(self.pid) == self.began else "dead"


def _machine() -> dict[str, str]:
    return {
        "host": socket.gethostname(),
        "machine": _text(MACHINE),
        "boot": _text(BOOT) or str(psutil.boot_time()),
        "namespace": _namespace(),
    }


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path(NAMESPACE).readlink())
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Ticks from the machine's start to its: field 22; the name before them may hold spaces."""
    stat = _text(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""
