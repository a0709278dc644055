"""What becomes of memory that this process frees."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

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
    mallopt = c_function("mallopt")
    if mallopt is None or any(name in os.environ for name in _USER_CHOICES):
        return
    mallopt(_MMAP_MAX, 0)  # no block is the system's own, to go back as soon as it is freed
    mallopt(_TRIM_THRESHOLD, _MOST_KEPT)


def c_function(name: str) -> Callable[..., int] | None:
    """Yield a function of glibc; other C libraries lack those that are asked for here."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
