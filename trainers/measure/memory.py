"""Memory of this process: its peak during a part of the work, and what becomes of freed memory."""

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"
"""What Linux wants to read there to begin the peak of resident memory anew (proc(5))."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""
_MOST_KEPT = 2**31 - 1
"""Bytes."""
_USER_CHOICES = (
    *("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"),
    "GLIBC_TUNABLES",
)


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that a pass frees for the next pass, once and for all.

    The C library of Linux hands large blocks back to the system and asks for them anew, to be
    filled page by page: up to 40 % of the time of a small model's pass, more or less as blocks
    happen to lie (docs/measuring.md). Other systems have other allocators, which stay as they are,
    and so does what environment variables set.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None or any(name in os.environ for name in _USER_CHOICES):
        return
    mallopt(_MMAP_MAX, 0)  # no block is the system's own, to go back as soon as it is freed
    mallopt(_TRIM_THRESHOLD, _MOST_KEPT)


def _c_function(name: str) -> Callable[..., int] | None:
    """Yield a function of glibc; other C libraries lack those that are asked for here."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def reset_peak_memory() -> None:
    """Begin the peak anew, for the CUDA device and for this process.

    Memory that is free but kept goes back to the system first: it is not this part's.

    A system that does not allow it goes on with the peak since the process began.
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    malloc_trim = _c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return


def peak_memory_mib() -> float:
    """Yield the peak of the CUDA device, or else of this process, since the last reset, in MiB."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
