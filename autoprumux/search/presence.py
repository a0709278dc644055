"""Whether a worker is alive, and the heartbeats by which this one says so.

On the same machine the process itself is asked, so that a trial is taken up at once after
`kill -9`. On others only heartbeats tell; they are written by a thread of their own, so a long
training does not look like a death.
"""

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoprumux.errors import StorageError
from autoprumux.storage.attempts import AttemptBook, Presence, Worker
from autoprumux.storage.database import BUSY_TIMEOUT_S

HEARTBEAT_S = 10.0
"""Seconds between heartbeats."""

STALE_S = BUSY_TIMEOUT_S + 30.0
"""Silence after which a worker of another machine counts as dead: more than the database's busy
timeout, so that a crowd of writers is not mistaken for deaths."""

WATCHED_S = 2.5 * HEARTBEAT_S
"""Seconds that this process itself must have seen no heartbeat of it, by a clock that nobody sets:
the times in the database jump when the clock of its machine does."""

_logger = logging.getLogger(__name__)

_clock = time.monotonic

_SEEN: dict[str, tuple[str, float]] = {}
"""Last heartbeat of each worker of another machine, and when this process first saw it."""

_AT_WORK: set[str] = set()
"""Names of this process's workers that still run; the others died with an exception."""


def new_worker() -> Worker:
    """Yield a name for this run of the search in this process."""
    process = os.getpid()
    return Worker(
        name=f"{platform.node()}:{process}:{uuid.uuid4().hex[:8]}",
        host=platform.node(),
        machine=_this_machine(),
        process=process,
        process_start=_start_time(process),
    )


def is_alive(presence: Presence) -> bool:
    """Yield whether a worker may still finish what it has begun."""
    worker = presence.worker
    if presence.has_left:
        return False
    if worker.machine != _this_machine():
        watched_s = _watched_s(presence)
        is_silent = presence.silent_s >= STALE_S and watched_s >= WATCHED_S
        return not is_silent and watched_s < STALE_S  # the clock may have been set back
    if worker.process == os.getpid():
        return worker.name in _AT_WORK
    return _is_running(worker.process, worker.process_start)


@contextmanager
def at_work(book: AttemptBook, worker: Worker) -> Iterator[None]:
    """Join the study, send heartbeats during the block, and leave it.

    What the worker has begun is given back when the block ends or is interrupted. After any other
    death it is left as it is, for others to find.
    """
    book.join(worker)
    _AT_WORK.add(worker.name)
    stop = threading.Event()
    thread = threading.Thread(target=_send_heartbeats, args=(book, worker, stop), daemon=True)
    thread.start()
    try:
        yield
    except (Exception, KeyboardInterrupt):
        _stop(thread, stop)
        _leave_quietly(book, worker)
        raise
    else:
        _stop(thread, stop)
        book.leave(worker)
    finally:
        _stop(thread, stop)
        _AT_WORK.discard(worker.name)


def _watched_s(presence: Presence) -> float:
    """Yield for how long this process has seen the same last heartbeat."""
    now, name = _clock(), presence.worker.name
    beat, since = _SEEN.get(name, ("", now))
    if beat != presence.beat_at:
        _SEEN[name] = (presence.beat_at, now)
        return 0.0
    return now - since


def _stop(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join()


def _send_heartbeats(book: AttemptBook, worker: Worker, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            book.beat(worker)
        except StorageError as error:  # the next one may get through
            _logger.warning("no heartbeat: %s", error)


def _leave_quietly(book: AttemptBook, worker: Worker) -> None:
    """Leave; if that fails too, the error that ended the work is the one to tell."""
    try:
        book.leave(worker)
    except StorageError as error:
        _logger.warning("left without a word: %s", error)


def _this_machine() -> str:
    """Yield what tells machines, their starts and their process namespaces apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _is_running(process: int, start: str) -> bool:
    """True if this machine runs the process that started at `start`, and no later one."""
    if start:
        return _start_time(process) == start
    if os.name != "posix":  # there the call below would end the process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_time(process: int) -> str:
    """Yield when a process of this machine started; empty if the system does not tell.

    A zombie has ended, though its parent has not noticed.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]  # the 22nd field; the name may hold spaces
