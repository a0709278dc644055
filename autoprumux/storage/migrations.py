"""Our schema's version, kept in a table of our own beside Optuna's `alembic_version`.

A new database is made from `schema.py` and gets the newest version. An older one is taken there by
the steps of `MIGRATIONS` in order; each is called with Alembic's operations, which can alter
tables on SQLite too. A step never touches a table of Optuna's.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, inspect, select, text

from autoprumux.errors import NewerSchemaError, StorageError
from autoprumux.storage.add_choices import add_choices
from autoprumux.storage.add_hyperparameters import add_hyperparameters
from autoprumux.storage.add_profiles import add_profiles
from autoprumux.storage.add_reasons import add_reasons
from autoprumux.storage.add_workers import add_workers
from autoprumux.storage.schema import METADATA, SCHEMA_VERSION_TABLE
from autoprumux.storage.views import create_views, has_views, views_hash

if TYPE_CHECKING:
    from alembic.operations import Operations

_logger = logging.getLogger(__name__)

Migration = Callable[["Operations"], None]

MIGRATIONS: Mapping[int, Migration] = {
    2: add_profiles,
    3: add_choices,
    4: add_workers,
    5: add_hyperparameters,
    6: add_reasons,
}
"""Step that leads to a version from the one before it; version 1 is the first."""

FIRST_VERSION = 1


def newest_version() -> int:
    """Yield the schema version that this program writes."""
    return max(MIGRATIONS, default=FIRST_VERSION)


def stored_version(connection: Connection) -> int | None:
    """Yield the database's schema version, or None if it holds none of our tables."""
    if not inspect(connection).has_table(SCHEMA_VERSION_TABLE.name):
        return None
    return connection.execute(select(SCHEMA_VERSION_TABLE.c.version)).scalar()


def is_current(connection: Connection, place: str) -> bool:
    """Yield whether tables and views are this program's, without writing.

    Raises:
        NewerSchemaError: If a newer version of the program wrote the database at `place`.
    """
    version = stored_version(connection)
    if version is not None and version > newest_version():
        raise NewerSchemaError(
            f"{place} was written by a newer autoprumux (schema {version}, this one knows "
            f"{newest_version()}). Upgrade autoprumux to read it."
        )
    if version != newest_version():
        return False
    stored_hash = connection.execute(select(SCHEMA_VERSION_TABLE.c.views_hash)).scalar()
    return stored_hash == views_hash() and has_views(connection)


def require_tables(connection: Connection, place: str) -> None:
    """Refuse a database in which a view or a virtual table has the name of a table of ours.

    Such a one can yield rows without end.

    Raises:
        StorageError: With its name.
    """
    found = set(inspect(connection).get_view_names())
    if connection.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'"
        found |= set(connection.execute(text(query)).scalars())
    for name in METADATA.tables:
        if name in found:
            raise StorageError(
                f"{place} holds `{name}`, which autoprumux did not make. Restore a copy, or give "
                "another database with `--storage`."
            )


def outdated_version(connection: Connection) -> int | None:
    """Yield the version of a database that `migrate` would take further, or None."""
    version = stored_version(connection)
    return version if version is not None and version < newest_version() else None


def migrate(connection: Connection, place: str) -> None:
    """Bring tables and views to this program's version inside one write transaction.

    Raises:
        NewerSchemaError: See `is_current`.
    """
    if is_current(connection, place):
        return
    version = stored_version(connection)
    if version is None:
        METADATA.create_all(connection)
        _logger.info("Made the tables of schema %d in %s", newest_version(), place)
    else:
        _upgrade(connection, version, place)
    create_views(connection)
    connection.execute(delete(SCHEMA_VERSION_TABLE))
    connection.execute(
        insert(SCHEMA_VERSION_TABLE).values(
            version=newest_version(), views_hash=views_hash(), changed_at=utc_now()
        )
    )


def utc_now() -> str:
    """Yield the time as ISO 8601 text in UTC, which sorts by time and needs no decoding."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _upgrade(connection: Connection, version: int, place: str) -> None:
    from alembic.migration import MigrationContext  # slow to import, rarely needed
    from alembic.operations import Operations

    operations = Operations(MigrationContext.configure(connection))
    for step in range(version + 1, newest_version() + 1):
        _logger.info("Taking %s from schema %d to %d", place, step - 1, step)
        MIGRATIONS[step](operations)
