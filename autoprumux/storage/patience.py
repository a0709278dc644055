"""Waiting for a database that went away: a server that restarts, a file that is moved back."""

import logging
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from autoprumux.errors import StorageError

_PAUSE_S = 1.0

_IDLE_S = 1.0
"""Seconds without use after which a connection is tried before it is used again. Trying it before
every transaction, as SQLAlchemy's `pool_pre_ping` does, is a transaction more for each."""

_logger = logging.getLogger(__name__)


@dataclass
class Patience:
    """How long new connections of a database wait for it; at first not at all."""

    place: str
    """The database as messages name it."""
    file: Path | None
    """The file of an SQLite database: one that is gone must not be made anew, empty."""
    seconds: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    """Set from elsewhere to wait no longer."""

    def watch(self, engine: Engine) -> None:
        """Let the new connections of an engine wait."""
        event.listen(engine, "do_connect", self._connect)

    def wait_for_file(self) -> None:
        """Wait for the file of an SQLite database.

        Raises:
            StorageError: If it stays away.
        """
        deadline = time.monotonic() + self.seconds
        while self.seconds and self.file is not None and not self.file.exists():
            if time.monotonic() >= deadline or self.stop.wait(_PAUSE_S):
                raise StorageError(f"{self.place} is gone.")

    def _connect(
        self, dialect: Dialect, _: object, arguments: Any, parameters: dict[str, Any]
    ) -> Any:
        deadline, is_told = time.monotonic() + self.seconds, False
        while True:
            try:
                if self.seconds and self.file is not None and not self.file.exists():
                    raise _gone(self.file)
                return dialect.connect(*arguments, **parameters)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() >= deadline or self.stop.is_set():
                    raise
            if not is_told:
                _logger.warning(
                    "%s is gone; waiting for it, %.0f s at most", self.place, self.seconds
                )
                is_told = True
            self.stop.wait(_PAUSE_S)


def ping_when_idle(engine: Engine) -> None:
    """Let a server's connections that nobody used for a while be tried first, and made anew."""
    if engine.dialect.name == "sqlite":
        return

    def note(_: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info["used_at"] = time.monotonic()

    def check(connection: DBAPIConnection, entry: ConnectionPoolEntry, _: object) -> None:
        if time.monotonic() - entry.info.get("used_at", time.monotonic()) < _IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool makes another one

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", check)


def _gone(file: Path) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(f"there is no {file}")
    error.sqlite_errorname = "SQLITE_CANTOPEN"
    return error
