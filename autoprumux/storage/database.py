"""From a storage URL to an engine whose schema is this program's, and to Optuna's storage."""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from autoprumux.errors import StorageError
from autoprumux.masking import mask_addresses
from autoprumux.storage.backups import kept_as_it_was
from autoprumux.storage.faults import is_locked, storage_errors
from autoprumux.storage.migrations import (
    is_current,
    migrate,
    outdated_version,
    require_tables,
    stored_version,
)
from autoprumux.storage.patience import Patience, ping_when_idle

if TYPE_CHECKING:
    from autoprumux.storage.optuna_storage import ClosingStorage

_logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 120.0
"""Seconds that a connection waits for another's write; writes here take milliseconds, those of
backups and of people with an editor longer."""

_ADVISORY_LOCK = 0x7072756D7578  # "prumux"; PostgreSQL's stand-in for SQLite's write lock
_RETRIES = 20
_RETRY_PAUSE_S = 0.05
_SECRET_OPTIONS = ("password", "passfile", "sslpassword")


@dataclass(frozen=True)
class Database:
    """An open database; `read` and `write` give connections in a transaction."""

    url: str
    """Storage URL with passwords masked, fit for print."""
    engine: Engine
    """Engine of our own tables; use `read` and `write` to have errors in sentences."""
    place: str
    """The database as error messages name it."""
    patience: Patience
    """How long it is waited for when it goes away."""
    _open: threading.local = field(default_factory=threading.local, repr=False, compare=False)
    """The connections of the blocks of `read` and `write` that a thread is in."""
    _storages: "list[ClosingStorage]" = field(default_factory=list, repr=False, compare=False)
    """Those of Optuna that were opened on the database."""

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database throughout.

        Within another block of the same thread it is that one's connection, which sees what the
        block has written.

        Raises:
            StorageError: If the database cannot be read.
        """
        outer = self._outer("write") or self._outer("read")
        if outer is not None:
            yield outer
            return
        with self._errors_in_sentences(), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            with self._shared("read", connection):
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection whose changes are kept together when the block ends, or not at all.

        Writers take turns from the start of their block, so none finds halfway that another
        changed what it had read. A block within another of the same thread joins it: an error in
        it must leave the outer one too.

        Raises:
            StorageError: If the database cannot be written.
        """
        outer = self._outer("write")
        if outer is not None:
            yield outer
            return
        with self._errors_in_sentences(), self.engine.connect() as connection:
            connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
                with self._shared("write", connection):
                    yield connection

    @property
    def is_writing(self) -> bool:
        """True within a block of `write` of this thread."""
        return self._outer("write") is not None

    def optuna_storage(
        self, make: "Callable[..., ClosingStorage] | None" = None
    ) -> "ClosingStorage":
        """Open Optuna's storage on the same database; its tables are made if they are not there.

        It is closed with the database.

        Args:
            make: Makes it from what `RDBStorage` takes; None means `ClosingStorage` itself.

        Raises:
            StorageError: If Optuna cannot use the database.
        """
        from optuna.exceptions import StorageInternalError

        try:
            with self._errors_in_sentences():
                for _ in range(_RETRIES):
                    # Workers that make Optuna's tables at once collide; a slower one finds them.
                    with contextlib.suppress(DBAPIError, StorageInternalError):
                        return self._make_optuna_storage(make)
                    time.sleep(_RETRY_PAUSE_S)
                return self._make_optuna_storage(make)
        except (StorageInternalError, RuntimeError) as error:
            raise StorageError(f"{self.place} cannot be used by Optuna: {error}") from error

    def close(self) -> None:
        """Close all connections, Optuna's too; the SQLite file alone then holds everything.

        SQLite empties the write-ahead log only with the last connection, and another process may
        have one, so a copy of the file would miss what is still in the log.
        """
        while self._storages:
            self._storages.pop().close()
        if self.engine.dialect.name == "sqlite":
            # A database that can only be read has nothing of ours in its log.
            with contextlib.suppress(DBAPIError, sqlite3.Error):
                connection = self.engine.raw_connection()
                connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
                connection.close()
        self.engine.dispose()

    def _outer(self, kind: Literal["read", "write"]) -> Connection | None:
        """Yield the connection of the block that this thread is in, if it is in one."""
        return getattr(self._open, kind, None)

    @contextmanager
    def _shared(self, kind: Literal["read", "write"], connection: Connection) -> Iterator[None]:
        """Let the blocks within this one join it."""
        setattr(self._open, kind, connection)
        try:
            yield
        finally:
            setattr(self._open, kind, None)

    def _make_optuna_storage(
        self, make: "Callable[..., ClosingStorage] | None"
    ) -> "ClosingStorage":
        from autoprumux.storage.optuna_storage import ClosingStorage

        url = _never_made_anew(self.engine.url).render_as_string(hide_password=False)
        escaped = url.replace("{", "{{").replace("}", "}}")  # Optuna fills templates in its URLs
        options = _engine_options(self.engine.url)
        self.patience.wait_for_file()  # what is made does not wait
        storage = (make or ClosingStorage)(escaped, engine_kwargs=options)
        self._storages.append(storage)
        self.patience.watch(storage.engine)
        ping_when_idle(storage.engine)
        return storage

    def _errors_in_sentences(self) -> AbstractContextManager[None]:
        return storage_errors(self.place, _secrets(self.engine.url))


def open_database(url: str, *, must_exist: bool = False) -> Database:
    """Open the database at `url` and bring our tables and views to this program's version.

    A refused open changes nothing and leaves no new file behind.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.
        must_exist: True refuses a database that holds no tables of ours, instead of making them.

    Raises:
        StorageError: If the URL or the database cannot be used.
        NewerSchemaError: If a newer version of this program wrote it.
    """
    parsed = _parse(url)
    file = _sqlite_file(parsed)
    place = f"`{file}`" if file else f"`{_masked(parsed)}`"
    is_new = file is not None and not file.exists()
    _require_usable_file(file, place, must_exist=must_exist)
    engine, patience = _make_engine(parsed), Patience(place, file)
    patience.watch(engine)
    ping_when_idle(engine)
    database = Database(url=_masked(parsed), engine=engine, place=place, patience=patience)
    try:
        _prepare(database, must_exist=must_exist)
    except BaseException:
        database.close()
        if is_new and file is not None:
            _remove_new_file(file)
        raise
    return database


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StorageError(
            f"`--storage` must look like `sqlite:///FILE` or `postgresql://USER@HOST/NAME`, "
            f"got {mask_addresses(url)!r}."
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        is_plain = parsed.drivername == "postgresql"
        return parsed.set(drivername="postgresql+psycopg") if is_plain else parsed
    if parsed.drivername != "sqlite":
        raise StorageError(
            f"`--storage` must be an SQLite file (`sqlite:///FILE`) or a PostgreSQL database "
            f"(`postgresql://USER@HOST/NAME`), got {mask_addresses(url)!r}."
        )
    if not parsed.database or parsed.database == ":memory:" or parsed.query or parsed.host:
        raise StorageError(
            "`--storage` needs the path of a file and nothing else after `sqlite:///`, "
            f"got {mask_addresses(url)!r}."
        )
    return parsed


def _never_made_anew(url: URL) -> URL:
    """Yield a URL that refuses an SQLite file that is gone, in place of making an empty one."""
    if url.get_backend_name() != "sqlite":
        return url
    return url.set(
        database=f"file:{quote(url.database or '')}", query={"mode": "rw", "uri": "true"}
    )


def _sqlite_file(url: URL) -> Path | None:
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _require_usable_file(file: Path | None, place: str, *, must_exist: bool) -> None:
    if file is None:
        return
    if file.is_dir():
        raise StorageError(f"{place} is a folder; `--storage` needs the path of a file.")
    if file.exists() and not file.is_file():
        raise StorageError(f"{place} is a pipe or a device; `--storage` needs a file.")
    if must_exist and not file.exists():
        raise StorageError(
            f"There is no database at {place}. Run `autoprumux search` first, or name another "
            "with `--storage`."
        )
    if not file.absolute().parent.is_dir():
        raise StorageError(f"{place} cannot be made: there is no folder `{file.parent}`.")


def _masked(url: URL) -> str:
    hidden = {key: "***" for key in url.query if key in _SECRET_OPTIONS}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(url: URL) -> tuple[str, ...]:
    options = (url.query.get(key) for key in _SECRET_OPTIONS)
    texts = (url.password, *(option for option in options if isinstance(option, str)))
    return tuple(text for text in texts if text)


def _engine_options(url: URL) -> dict[str, object]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    return {}


def _make_engine(url: URL) -> Engine:
    try:
        engine = create_engine(url, **_engine_options(url))
    except ImportError as error:
        raise StorageError(
            f"`{_masked(url)}` needs a driver that is not installed: "
            'run `pip install "psycopg[binary]"`.'
        ) from error
    except (ArgumentError, ValueError) as error:
        raise StorageError(f"`{_masked(url)}` cannot be used as `--storage`.") from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # else the driver opens transactions late, and DDL escapes
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from a stranger


def _on_sqlite_begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get("sqlite_begin", "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)


def _prepare(database: Database, *, must_exist: bool) -> None:
    """Check the version, switch SQLite to its write-ahead log, migrate."""
    with database.read() as connection:
        require_tables(connection, database.place)
        is_ready = is_current(connection, database.place)
        is_foreign = stored_version(connection) is None
    if is_ready:
        return
    if must_exist and is_foreign:
        raise StorageError(
            f"{database.place} holds no studies of autoprumux. Run `autoprumux search` first, or "
            "name another with `--storage`."
        )
    with storage_errors(database.place):
        _use_write_ahead_log(database)
    with database.write() as connection:
        version = outdated_version(connection)
        if version is None:
            migrate(connection, database.place)
            return
        file = _sqlite_file(database.engine.url)
        with kept_as_it_was(file, database.place, version):
            migrate(connection, database.place)


def _use_write_ahead_log(database: Database) -> None:
    """Let readers and a writer of an SQLite file work side by side; the file remembers it."""
    if database.engine.dialect.name != "sqlite":
        return
    for attempt in range(_RETRIES):
        try:
            mode = _set_journal_mode(database.engine)
        except OperationalError as error:
            # SQLite does not wait for the busy timeout here.
            if not is_locked(error) or attempt == _RETRIES - 1:
                raise
            time.sleep(_RETRY_PAUSE_S)
        else:
            if mode != "wal":
                _logger.warning("%s has no write-ahead log (a network folder?)", database.place)
            return


def _set_journal_mode(engine: Engine) -> str:
    with engine.connect().execution_options(sqlite_begin="") as connection:
        return str(connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar())


def _remove_new_file(file: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
