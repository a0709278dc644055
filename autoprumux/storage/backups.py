"""What is kept of a database before its schema is changed."""

import contextlib
import itertools
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoprumux.errors import StorageError
from autoprumux.storage.migrations import newest_version

_logger = logging.getLogger(__name__)


@contextmanager
def kept_as_it_was(file: Path | None, place: str, version: int) -> Iterator[None]:
    """Keep an SQLite file as it is beside itself; dropped again if the block fails.

    The caller holds the write lock, so nothing is written in between. A server's databases are
    backed up by its own tools; there the transaction alone protects what is stored.

    Args:
        file: The database; None if it is a server's.
        place: The database as messages name it.
        version: Its schema.

    Raises:
        StorageError: If no copy can be kept.
    """
    if file is None:
        yield
        _logger.warning(
            "%s went from schema %d to %d, which earlier versions cannot read; of a server's "
            "database no copy is kept here: before an upgrade, `pg_dump` makes one",
            place,
            version,
            newest_version(),
        )
        return
    copy = _free_name(file.with_name(f"{file.name}.schema-{version}"))
    try:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
    except sqlite3.Error as error:
        copy.unlink(missing_ok=True)
        raise StorageError(
            f"{place} needs a newer schema, but no copy of it can be kept at `{copy}` "
            f"({error}). Free some space there and run again."
        ) from error
    try:
        yield
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    _logger.warning("%s has a newer schema now; as it was it is in `%s`", place, copy)


def _free_name(wanted: Path) -> Path:
    """Yield `wanted`, numbered if it is taken: the file may be of another database."""
    names = itertools.chain([wanted.name], (f"{wanted.name}-{k}" for k in itertools.count(2)))
    return next(p for p in map(wanted.with_name, names) if not p.exists())
