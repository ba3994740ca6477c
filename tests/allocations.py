"""What a call allocates: through torch, and of the whole process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.autograd.profiler import profile

M_MMAP_THRESHOLD = -3  # malloc.h
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def allocations(function: Callable[[], object]) -> list[int]:
    """The size of each block of CPU memory that torch gave out during the call."""
    with profile(profile_memory=True) as profiler:
        function()
    events = profiler.kineto_results.events()
    return [event.nbytes() for event in events if event.name() == "[memory]" and event.nbytes() > 0]


def _kilobytes(field: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def peak(function: Callable[[], object]) -> int:
    """By how many bytes the process grew at most during the call, native code included.

    Meanwhile a freed block of 1 MiB or more goes back to the system at once: how much of such blocks malloc keeps, up to tens
    of megabytes, depends on everything that was allocated before.
    """
    try:
        CLEAR.write_text("5")  # the highest memory so far starts again from what is held now
    except OSError:
        pytest.skip("needs Linux's /proc/self/clear_refs")
    malloc_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if malloc_option is None:
        pytest.skip("needs glibc's mallopt")
    malloc_option(M_MMAP_THRESHOLD, 1 << 20)
    try:
        before = _kilobytes("VmHWM:")
        function()
        return 1024 * (_kilobytes("VmHWM:") - before)
    finally:
        malloc_option(M_MMAP_THRESHOLD, 32 << 20)  # as much as glibc raises it to by itself
