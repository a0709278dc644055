"""What an error of the database driver means, as one sentence for the user."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from autoprumux.errors import StorageError

_SENTENCES = {
    "SQLITE_FULL": "There is no space left to write {place}. Free some space and run again.",
    "SQLITE_BUSY": "{place} is locked by another process. Try again when that one is done.",
    "SQLITE_LOCKED": "{place} is locked by another process. Try again when that one is done.",
    "SQLITE_NOTADB": "{place} is not an SQLite database. Give another file with `--storage`.",
    "SQLITE_CORRUPT": "{place} is damaged. Restore a copy, or give another file with `--storage`.",
    "SQLITE_READONLY": "{place} cannot be written: the file or its folder is read-only.",
    "SQLITE_CANTOPEN": "{place} cannot be opened: the folder is missing or may not be written.",
    "SQLITE_PERM": "{place} cannot be opened: permission denied.",
    "SQLITE_IOERR": "{place} could not be read or written (disk error or disk full).",
}

_FULL_STATES = {"53100"}  # PostgreSQL: disk_full


@contextmanager
def storage_errors(place: str, secrets: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn a driver's error into a `StorageError` of one sentence.

    Args:
        place: The database as messages name it, passwords masked.
        secrets: Texts that must not reach the message.

    Raises:
        StorageError: If the block raises an error of SQLAlchemy or the driver.
    """
    try:
        yield
    except SQLAlchemyError as error:
        message = _sentence(error, place)
        for secret in secrets:
            message = message.replace(secret, "***")
        raise StorageError(message) from error


def is_locked(error: SQLAlchemyError) -> bool:
    """Yield whether SQLite refused because another connection holds the lock."""
    return _sqlite_name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def driver_sentence(error: Exception, place: str) -> str:
    """Yield what to say of an error of SQLite's driver."""
    return _known(str(getattr(error, "sqlite_errorname", "")), place) or _unknown(error, place)


def _sentence(error: SQLAlchemyError, place: str) -> str:
    known = _known(_sqlite_name(error), place)
    if known is not None:
        return known
    if getattr(getattr(error, "orig", None), "sqlstate", None) in _FULL_STATES:
        return _SENTENCES["SQLITE_FULL"].format(place=place)
    is_driver = isinstance(error, DBAPIError) and error.orig is not None
    return _unknown(error.orig if is_driver else error, place)  # type: ignore[attr-defined]


def _known(name: str, place: str) -> str | None:
    for prefix, sentence in _SENTENCES.items():
        if name.startswith(prefix):
            return sentence.format(place=place)
    return None


def _unknown(cause: BaseException, place: str) -> str:
    first_line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    return f"{place} could not be used: {first_line.rstrip('.')}."


def _sqlite_name(error: SQLAlchemyError) -> str:
    return str(getattr(getattr(error, "orig", None), "sqlite_errorname", ""))
