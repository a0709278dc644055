"""Who works on a study, and every attempt at its trials: the book-keeping of several workers.

A worker says that it is alive by its heartbeats. A trial is one worker's from `begin` to `end`;
`begin` succeeds for one worker only, and again once the one before has ended, left or died.
Times are those of the database's server, so that the clocks of machines need not agree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, func, insert, select, update

from autoprumux.storage.database import Database
from autoprumux.storage.schema import ATTEMPTS, STUDIES, WORKERS

AttemptOutcome = Literal["told", "given_back", "lost", "retried"]
"""`told`: its outcome is stored and Optuna knows it; `given_back`: the worker left; `lost`: the
worker died or fell silent; `retried`: it failed, and the next attempt changes something."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One run of the search loop in one process."""

    name: str
    """`host:process:token`, unique."""
    host: str
    machine: str
    """Tells machines, their starts and their process namespaces apart."""
    process: int
    process_start: str


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A worker as the database sees it."""

    worker: Worker
    beat_at: str
    """Time of its last heartbeat, by the clock of the database."""
    silent_s: float
    """Seconds since then, by the same clock, which may have been set meanwhile."""
    has_left: bool


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One worker's try at a trial."""

    number: int
    attempt: int
    """Counted from 1."""
    worker: str
    remedy: str
    """What it did differently from the one before, or nothing."""
    is_trained: bool
    """True once its training had begun."""
    outcome: AttemptOutcome | None
    """None while it is under way, and for ever if its worker died and nobody took over."""
    cause: str | None
    message: str | None


IsAlive = Callable[[Presence], bool]

_SERVER_NOW = func.to_char(
    func.timezone("UTC", func.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"'
)
"""PostgreSQL's time in the form of `datetime.isoformat`."""


class AttemptBook:
    """Workers and attempts of one study."""

    def __init__(self, database: Database, study: str) -> None:
        self._database = database
        with database.read() as connection:
            query = select(STUDIES.c.study_id).where(STUDIES.c.name == study)
            self._study_id = int(connection.execute(query).scalar_one())

    def join(self, worker: Worker) -> None:
        """Store a worker with its first heartbeat."""
        with self._database.write() as connection:
            now = _now_text(connection)
            columns = {
                "study_id": self._study_id,
                "worker": worker.name,
                "host": worker.host,
                "machine": worker.machine,
                "process": worker.process,
                "process_start": worker.process_start,
                "joined_at": now,
                "beat_at": now,
            }
            connection.execute(insert(WORKERS).values(columns))

    def beat(self, worker: Worker) -> None:
        """Store that a worker is alive."""
        self._note_worker(worker, "beat_at")

    def leave(self, worker: Worker) -> None:
        """Store that a worker stopped working, and give back what it had begun."""
        self._note_worker(worker, "left_at")
        with self._database.write() as connection:
            mine = (ATTEMPTS.c.worker == worker.name, ATTEMPTS.c.ended_at.is_(None))
            self._end(connection, mine, "given_back")

    def presences(self) -> list[Presence]:
        """Load every worker that ever joined, the first first."""
        with self._database.read() as connection:
            return list(self._presences(connection).values())

    def begin(self, number: int, worker: Worker, is_alive: IsAlive, remedy: str = "") -> bool:
        """Make trial `number` this worker's; False if another has it or it is finished."""
        with self._database.write() as connection:
            last = self._last(connection, number)
            if last is not None and last["ended_at"] is None:
                if last["worker"] == worker.name:
                    return True
                owner = self._presences(connection).get(last["worker"])
                if owner is not None and is_alive(owner):
                    return False
                open_attempt = (ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None))
                self._end(connection, open_attempt, "lost")
            elif last is not None and last["outcome"] == "told":
                return False
            row = {
                "study_id": self._study_id,
                "number": number,
                "attempt": 1 if last is None else last["attempt"] + 1,
                "worker": worker.name,
                "remedy": remedy,
                "began_at": _now_text(connection),
            }
            connection.execute(insert(ATTEMPTS).values(row))
            return True

    def note_training(self, number: int, worker: Worker, remedy: str = "") -> None:
        """Store that the training of an attempt begins; its death counts from here.

        Args:
            number: Trial.
            worker: Whose attempt it is.
            remedy: What it does differently; empty for what was said when it began.
        """
        with self._database.write() as connection:
            values: dict[str, Any] = {"training_at": _now_text(connection)}
            if remedy:
                values["remedy"] = remedy
            where = self._open_attempt(number, worker)
            connection.execute(update(ATTEMPTS).where(*where).values(values))

    def is_held(self, number: int, worker: Worker) -> bool:
        """Yield whether trial `number` is still this worker's."""
        with self._database.read() as connection:
            query = select(ATTEMPTS.c.attempt).where(*self._open_attempt(number, worker))
            return connection.execute(query).first() is not None

    def end(
        self,
        number: int,
        worker: Worker,
        outcome: AttemptOutcome,
        *,
        cause: str | None = None,
        message: str | None = None,
    ) -> None:
        """Store how this worker's attempt at trial `number` ended."""
        with self._database.write() as connection:
            where = self._open_attempt(number, worker)
            self._end(connection, where, outcome, cause=cause, message=message)

    def retry(self, number: int, worker: Worker, remedy: str, *, cause: str, message: str) -> None:
        """End this worker's attempt at trial `number` and begin the next, which it keeps."""
        with self._database.write() as connection:
            last = self._last(connection, number)
            assert last is not None
            where = self._open_attempt(number, worker)
            self._end(connection, where, "retried", cause=cause, message=message)
            row = {
                "study_id": self._study_id,
                "number": number,
                "attempt": last["attempt"] + 1,
                "worker": worker.name,
                "remedy": remedy,
                "began_at": _now_text(connection),
            }
            connection.execute(insert(ATTEMPTS).values(row))

    def attempts(self, number: int | None = None) -> list[Attempt]:
        """Load the attempts at one trial or at all, in order."""
        query = select(ATTEMPTS).where(ATTEMPTS.c.study_id == self._study_id)
        if number is not None:
            query = query.where(ATTEMPTS.c.number == number)
        order = (ATTEMPTS.c.number, ATTEMPTS.c.attempt)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(*order)).mappings().all()
        return [_attempt(row) for row in rows]

    def num_open(self, worker: Worker) -> int:
        """Count the trials that other workers have under way, dead ones included."""
        query = select(func.count()).select_from(ATTEMPTS).where(*self._others_open(worker))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def num_at_work(self, worker: Worker, is_alive: IsAlive) -> int:
        """Count the trials that other live workers have under way."""
        with self._database.read() as connection:
            query = select(ATTEMPTS.c.worker).where(*self._others_open(worker))
            owners = connection.execute(query).scalars().all()
            if not owners:
                return 0
            known = self._presences(connection)
            return sum(name in known and is_alive(known[name]) for name in owners)

    def _note_worker(self, worker: Worker, column: str) -> None:
        with self._database.write() as connection:
            mine = (WORKERS.c.study_id == self._study_id, WORKERS.c.worker == worker.name)
            now = _now_text(connection)
            connection.execute(update(WORKERS).where(*mine).values({column: now}))

    def _presences(self, connection: Connection) -> dict[str, Presence]:
        now = _now(connection)
        query = select(WORKERS).where(WORKERS.c.study_id == self._study_id)
        query = query.order_by(WORKERS.c.joined_at, WORKERS.c.worker)
        return {
            row["worker"]: Presence(
                worker=Worker(
                    name=row["worker"],
                    host=row["host"],
                    machine=row["machine"],
                    process=row["process"],
                    process_start=row["process_start"],
                ),
                beat_at=row["beat_at"],
                silent_s=(now - datetime.fromisoformat(row["beat_at"])).total_seconds(),
                has_left=row["left_at"] is not None,
            )
            for row in connection.execute(query).mappings()
        }

    def _last(self, connection: Connection, number: int) -> RowMapping | None:
        query = select(ATTEMPTS).where(
            ATTEMPTS.c.study_id == self._study_id, ATTEMPTS.c.number == number
        )
        newest = query.order_by(ATTEMPTS.c.attempt.desc()).limit(1)
        return connection.execute(newest).mappings().first()

    def _others_open(self, worker: Worker) -> tuple[Any, ...]:
        return (
            ATTEMPTS.c.study_id == self._study_id,
            ATTEMPTS.c.ended_at.is_(None),
            ATTEMPTS.c.worker != worker.name,
        )

    def _open_attempt(self, number: int, worker: Worker) -> tuple[Any, ...]:
        return (
            ATTEMPTS.c.study_id == self._study_id,
            ATTEMPTS.c.number == number,
            ATTEMPTS.c.worker == worker.name,
            ATTEMPTS.c.ended_at.is_(None),
        )

    def _end(
        self,
        connection: Connection,
        where: Sequence[Any],
        outcome: AttemptOutcome,
        *,
        cause: str | None = None,
        message: str | None = None,
    ) -> None:
        values = {
            "ended_at": _now_text(connection),
            "outcome": outcome,
            "cause": cause,
            "message": message,
        }
        of_study = ATTEMPTS.c.study_id == self._study_id
        connection.execute(update(ATTEMPTS).where(of_study, *where).values(values))


def _attempt(row: RowMapping) -> Attempt:
    return Attempt(
        number=row["number"],
        attempt=row["attempt"],
        worker=row["worker"],
        remedy=row["remedy"],
        is_trained=row["training_at"] is not None,
        outcome=row["outcome"],
        cause=row["cause"],
        message=row["message"],
    )


def _now(connection: Connection) -> datetime:
    """Yield the time of the database's server; an SQLite file has none but this machine's."""
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def _now_text(connection: Connection) -> str | ColumnElement[str]:
    """Yield the same time as ISO 8601 text, or how the server itself writes it into a row."""
    if connection.dialect.name != "postgresql":
        return _now(connection).isoformat(timespec="milliseconds")
    return _SERVER_NOW
