"""A directory that is there whole or not at all.

It is filled beside its place, under a name that says so, and renamed when all of it was checked.
While a process fills it, it holds a lock on it, so what a killed process left is told from what
another is still filling.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoprumux import leftovers
from autoprumux.errors import UsageError
from autoprumux.leftovers import try_lock

MARK = "autoprumux-export"
"""Part of the name of a directory that is being filled: `.NAME.autoprumux-export-PID`."""


def require_place(out: Path) -> None:
    """Refuse a place that cannot be written, before any work.

    Raises:
        UsageError: If something is there already, or its folder is not.
    """
    if out.exists() or out.is_symlink():
        raise UsageError(
            f"`--out` {out} exists already, and an export replaces nothing; name another "
            "directory, or remove this one."
        )
    parent = out.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"`--out` {out} cannot be written: there is no folder {parent}.")


@contextmanager
def whole_directory(out: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `out` when the block ends, and is gone if it fails.

    What exports to the same folder left when they were killed is removed first.

    Raises:
        UsageError: If the place is taken or cannot be written.
    """
    target = out.absolute()
    remove_leftovers(target.parent)
    filled = target.with_name(f".{target.name}.{MARK}-{os.getpid()}")
    lock: int | None = None
    try:
        with _errors_in_sentences(out):
            filled.mkdir()
            lock = try_lock(filled)
        yield filled
        require_place(out)
        with _errors_in_sentences(out):
            _share_files(filled)
            filled.rename(target)
    finally:
        shutil.rmtree(filled, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed exports left in a folder, and yield what it was."""
    return leftovers.remove_leftovers(folder, f".*.{MARK}-*")


def _share_files(directory: Path) -> None:
    """Give the files the rights of the folder; safetensors writes for the owner alone."""
    mode = directory.stat().st_mode & 0o666
    for path in directory.iterdir():
        path.chmod(mode)


@contextmanager
def _errors_in_sentences(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"`--out` {out} cannot be written: {reason}.") from error
