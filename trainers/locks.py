"""Locks between processes of one machine, which the system releases when a process dies."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

POLL_S = 0.2
"""Seconds between attempts."""


@contextmanager
def file_lock(
    path: Path, *, timeout_s: float = inf, on_wait: Callable[[], object] = lambda: None
) -> Iterator[bool]:
    """Hold a lock during the block, and yield whether it was had in time.

    The file stays, because another process may be waiting at it.

    Args:
        path: The lock's file; its folder must exist. It may be another user's.
        timeout_s: Seconds after which the block runs without the lock.
        on_wait: Called after every vain attempt; may raise to give up.
    """
    descriptor = _open(path)
    try:
        yield _acquire(descriptor, timeout_s, on_wait)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, timeout_s: float, on_wait: Callable[[], object]) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            on_wait()
            time.sleep(POLL_S)
        else:
            return True


def _open(path: Path) -> int:
    """Open or make the file, for writing if it may be: network folders want that of a lock."""
    options = os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, os.O_RDWR | options)
        except PermissionError:  # another user's
            return os.open(path, os.O_RDONLY | options)
        except FileNotFoundError:
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | options, 0o644)
            except FileExistsError:
                continue
