"""Memory of this machine, or of the container that a step is in: what there is, what is free."""

import os
import resource
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container its limits."""


def memory_of_host(limit: Path = CGROUP / "memory.max") -> int:
    """Bytes of main memory, or of what a container may take of it."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(size, int(allowed)) if allowed.isdecimal() else size


def free_gpu_memory() -> int:
    """Bytes that this process can still have of the current GPU."""
    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def free_memory() -> int:
    """Bytes of main memory that this process can still have: machine, container and limits."""
    found = [memory_of_host()]
    if MEMINFO.is_file():  # of Linux
        lines = (line.split() for line in MEMINFO.read_text(encoding="ascii").splitlines())
        kib = {words[0].rstrip(":"): int(words[1]) for words in lines}
        found.append(1024 * (kib["MemAvailable"] + kib["SwapFree"]))
    limit, used, stat = (CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdecimal():
        parts = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
        taken = int(used.read_text(encoding="ascii")) - int(parts.get("inactive_file", 0))
        found.append(int(text) - taken)  # the cache of files gives way
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY and STATM.is_file():
        pages = int(STATM.read_text(encoding="ascii").split()[0])
        found.append(most - pages * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(found))
