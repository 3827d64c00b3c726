"""Memory that is freed is kept while a step works, and given back before the next."""

import platform
import subprocess
import sys

import pytest

# As C calls the allocator: what a tensor keeps beside its numbers would hold memory below it.
WORK = """
import ctypes, psutil, resource
from posttrain.cost import Meter
from posttrain.models.device import prepare

libc = ctypes.CDLL(None)
libc.malloc.restype, size = ctypes.c_void_p, ctypes.c_size_t(24 * 2**20)

def step():
    held = [ctypes.c_void_p(libc.malloc(size)) for _ in range(8)]
    for memory in held:
        libc.memset(memory, 1, size)
    for memory in held:
        libc.free(memory)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return psutil.Process().memory_info().rss
"""

FAULTS = """
for _ in range(3):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""

RESIDENT = """
prepare(0)
before = resident()
step()
kept = resident() - before
Meter()
print(kept - (resident() - before))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")


def number(script: str) -> int:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return int(done.stdout.split()[-1])


def test_freed_memory_is_not_given_back_and_zeroed_anew() -> None:
    kept, by_default = number(WORK + "prepare(0)" + FAULTS), number(WORK + FAULTS)
    assert kept * 10 < by_default


def test_it_is_given_back_before_the_next_step_is_measured() -> None:
    """Eight times 24 MiB; another thread's memory may come and go meanwhile."""
    assert number(WORK + RESIDENT) > 7 * 24 * 2**20
