"""Folders and files that are being filled, told apart from what killed processes left of them.

Whoever fills one holds a lock on it, which ends with the process, however that ends.
"""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRATCH = "autoprumux-scratch"
_ATTEMPTS = 5


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Give an empty folder in `parent`, or among the machine's temporary files.

    It is gone when the block ends. What killed processes left of theirs is removed first.

    Raises:
        OSError: If it cannot be made.
    """
    place = parent or Path(tempfile.gettempdir())
    remove_scratch(place)
    folder, lock = _locked(lambda: Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}-", dir=place)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_scratch(parent: Path | None = None) -> None:
    """Remove what killed processes left of their scratch folders, see `scratch_folder`."""
    remove_leftovers(parent or Path(tempfile.gettempdir()), f"{_SCRATCH}-*")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a new file beside `target` that takes its place when the block ends, or is gone.

    What killed processes left of theirs is removed first.

    Raises:
        OSError: If it cannot be made or put there.
    """
    mark = f".{target.stem}.autoprumux"
    remove_leftovers(target.parent, f"{glob.escape(mark)}-*{glob.escape(target.suffix)}")
    place = target.with_name(f"{mark}-{os.getpid()}{target.suffix}")

    def make() -> Path:
        place.touch()
        return place

    new, lock = _locked(make)
    try:
        yield new
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(folder: Path, pattern: str) -> list[Path]:
    """Remove what nobody fills any more, and yield what it was."""
    removed = []
    for path in folder.glob(pattern):
        lock = try_lock(path)
        if lock is None:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        os.close(lock)
        removed.append(path)
    return removed


def _locked(make: Callable[[], Path]) -> tuple[Path, int | None]:
    """Make a folder or file and lock it; again if another process takes it for a leftover.

    Where the file system knows no locks there is none, and it is used without.
    """
    for _ in range(_ATTEMPTS):
        path = make()
        lock = try_lock(path)
        if lock is not None or path.exists():
            return path, lock
    return make(), None


def try_lock(path: Path) -> int | None:
    """Yield the descriptor that holds the lock of a folder or file, None if another process does.

    None too if it was removed meanwhile or belongs to another user.
    """
    descriptor: int | None = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor
