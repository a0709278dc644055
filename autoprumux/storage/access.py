"""Rows of a stored database for reading alone, without SQLAlchemy where that is possible.

Loading SQLAlchemy takes as long as all the rest of a query. An SQLite file whose tables and views
are this program's is read by Python's own driver; every other database, and every one with which
something is wrong, is opened as usual, which migrates it or says what is wrong.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from autoprumux.errors import StorageError
from autoprumux.storage.reading import Rows, StoredRow, Wanted
from autoprumux.storage.views import VIEWS, views_hash

QUICK_VERSION = 6
"""Schema version that is read directly, the newest."""

_PREFIX = "sqlite:///"
_CHECKED = "SELECT name FROM sqlite_master WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL%'"


@contextmanager
def stored_rows(url: str) -> Iterator[tuple[Rows, str]]:
    """Give the rows of a database that must exist, and its name for messages.

    Raises:
        StorageError: If the URL or the database cannot be used.
        NewerSchemaError: If a newer version of this program wrote it.
    """
    with ExitStack() as stack:
        quick = _quick_rows(url, stack)
        yield quick if quick is not None else _usual_rows(url, stack)


def _usual_rows(url: str, stack: ExitStack) -> tuple[Rows, str]:
    from autoprumux.storage.database import open_database
    from autoprumux.storage.fetching import rows_of

    database = open_database(url, must_exist=True)
    stack.callback(database.close)
    return rows_of(stack.enter_context(database.read())), database.place


def _quick_rows(url: str, stack: ExitStack) -> tuple[Rows, str] | None:
    """Yield the rows of an SQLite file that is up to date, or None."""
    path = url.removeprefix(_PREFIX)
    file = Path(path)
    if path == url or "?" in path or unquote(path) != path or not file.is_file():
        return None
    with ExitStack() as opening:
        try:
            source = f"{file.absolute().as_uri()}?mode=ro"
            connection = opening.enter_context(
                closing(sqlite3.connect(source, uri=True, isolation_level=None))
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("BEGIN")
            is_current = _is_current(connection)
        except sqlite3.Error:
            return None
        if not is_current:
            return None
        stack.push(opening.pop_all())
    return _rows_of(connection, f"`{file}`"), f"`{file}`"


def _is_current(connection: sqlite3.Connection) -> bool:
    stored = connection.execute("SELECT version, views_hash FROM prumux_schema_version").fetchall()
    views = {row["name"] for row in connection.execute(_CHECKED)}
    ours = {name for name in views if str(name).startswith("prumux_")}
    # One of our tables as a view could run for ever; the usual way says what is wrong.
    is_ours = [tuple(row) for row in stored] == [(QUICK_VERSION, views_hash())]
    return is_ours and ours == set(VIEWS)


def _rows_of(connection: sqlite3.Connection, place: str) -> Rows:
    def fetch(table: str, /, **where: Wanted) -> Sequence[StoredRow]:
        try:
            return fetch_unguarded(table, **where)
        except sqlite3.Error as error:
            from autoprumux.storage.faults import driver_sentence

            raise StorageError(driver_sentence(error, place)) from error

    def fetch_unguarded(table: str, /, **where: Wanted) -> Sequence[StoredRow]:
        # Names of tables and columns are words of this package, never of a user.
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        key = [row["name"] for row in sorted(columns, key=lambda row: row["pk"]) if row["pk"]]
        wanted = {n: (v,) if isinstance(v, int | str) else tuple(v) for n, v in where.items()}
        places = (f"{name} IN ({', '.join('?' * len(of))})" for name, of in wanted.items())
        condition, order = " AND ".join(places) or "1", ", ".join(key)
        query = f"SELECT * FROM {table} WHERE {condition} ORDER BY {order}"
        found = connection.execute(query, tuple(chain(*wanted.values())))
        found.row_factory = None
        names = [row["name"] for row in columns]
        return [dict(zip(names, row, strict=True)) for row in found]

    return fetch
