"""Memory that the C library holds back after it was freed; nothing where it is not glibc."""

import ctypes
from functools import cache
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_THRESHOLD = 32 * 2**20
"""More is refused by glibc on 64 bits: larger tensors are mapped each for itself."""


@cache
def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to a GiB: a step's tensors are as large as the last one's.

    By itself it gives back each tensor of some MiB, and the kernel zeroes its pages for the next: a
    tenth of a small model's training on a CPU.
    """
    if (mallopt := _glibc("mallopt")) is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 2**30)


def give_back_freed_memory() -> None:
    """Have it give back what it kept: the work that follows begins with memory of its own."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _glibc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None  # musl, macOS
