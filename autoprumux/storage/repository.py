"""Save and load records; every write is one transaction and may be repeated."""

import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from sqlalchemy import (
    Connection,
    RowMapping,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from autoprumux.errors import (
    DamagedError,
    StorageError,
    StudyMismatchError,
    UnknownStudyError,
)
from autoprumux.records import (
    Candidate,
    Choice,
    Failure,
    Measurement,
    StudyRecord,
)
from autoprumux.storage.calibrations import with_calibrations
from autoprumux.storage.changes import Known, Stamp, ended_of, new_starts, newly_ended, stamp_of
from autoprumux.storage.database import Database
from autoprumux.storage.fetching import rows_of
from autoprumux.storage.migrations import utc_now
from autoprumux.storage.reading import (
    candidate_of_row,
    ended_trials,
    find_study,
    read_failures,
    read_measurements,
    read_trials,
    study_of,
    study_rows,
    unknown_sentence,
)
from autoprumux.storage.rows import (
    candidate_columns,
    insert_failure,
    insert_hyperparameters,
    insert_measurement,
    insert_runners_up,
    require_finite,
)
from autoprumux.storage.schema import (
    BUDGETS,
    CLAIMS,
    FAILURE_CAUSES,
    STARTS,
    STUDIES,
)

_logger = logging.getLogger(__name__)

_Outcome = TypeVar("_Outcome", Measurement, Failure)


class Repository:
    """The studies of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Known] = {}
        """By study; starts and outcomes never change, so each is read once."""
        self._rows: dict[str, RowMapping] = {}
        """Studies that were looked up to write their trials; they are never removed."""

    def save_study(self, record: StudyRecord) -> None:
        """Store a study without its trials, or bring configuration and budgets up to date.

        Raises:
            StudyMismatchError: If a study of this name was made with another recipe or data.
            StorageError: If a number is not finite, or the database cannot be written.
        """
        require_finite(record.budgets, f"the budgets of study `{record.name}`")
        require_finite(record.config, f"the configuration of study `{record.name}`")
        columns = {
            "task": record.task,
            "config_json": json.dumps(record.config, allow_nan=False, sort_keys=True),
            "config_hash": record.config_hash,
            "data_fingerprint": record.data_fingerprint,
            "seed": int(record.seed),
        }
        self._rows.pop(record.name, None)
        with self._database.write() as connection:
            stored = _find_study(connection, record.name)
            now = utc_now()
            if stored is None:
                row = columns | {"name": record.name, "created_at": now, "updated_at": now}
                connection.execute(insert(STUDIES), row)
            else:
                _require_same_study(stored, record)
                changes = columns | {"updated_at": now}
                of_study = STUDIES.c.study_id == stored["study_id"]
                connection.execute(update(STUDIES).where(of_study).values(changes))
            stored = _find_study(connection, record.name)
            assert stored is not None
            _replace_budgets(connection, stored["study_id"], record.budgets)

    def load_study(self, name: str | None = None, task: str | None = None) -> StudyRecord:
        """Load the study of this name and task with its trials; the one searched last of several.

        Raises:
            UnknownStudyError: If there is none; the message lists what is there.
            StorageError: If the database cannot be read.
        """
        # What a transaction has written may yet come to nothing.
        cache = {} if self._database.is_writing else self._known
        with self._database.read() as connection:
            if name is not None and task is None and name in cache:
                stamp = stamp_of(connection, name)
                if stamp is not None and stamp.updated_at == cache[name].stamp.updated_at:
                    return self._record(connection, cache[name], stamp)
            rows = rows_of(connection)
            row = find_study(rows, self._database.place, name, task)
            stamp = stamp_of(connection, row["name"])
            assert stamp is not None
            before = cache.get(row["name"])
            known = Known(
                study_of(rows, row, ()),
                Stamp(row["study_id"], row["updated_at"]),
                before.trials if before is not None else {},
            )
            cache[row["name"]] = known
            return self._record(connection, known, stamp)

    def list_studies(self) -> list[StudyRecord]:
        """Load all studies without their trials, the one searched last first.

        Raises:
            StorageError: If the database cannot be read.
        """
        with self._database.read() as connection:
            rows = rows_of(connection)
            return [study_of(rows, row, ()) for row in study_rows(rows)]

    def load_studies(self) -> list[StudyRecord]:
        """Load all studies with their trials, the one searched last first.

        One that is damaged is left out, and a warning says so.

        Raises:
            StorageError: If the database cannot be read.
        """
        with self._database.read() as connection:
            names = [str(row["name"]) for row in study_rows(rows_of(connection))]
        found = []
        for name in names:
            try:
                found.append(self.load_study(name))
            except DamagedError as error:
                _logger.warning("study `%s` is left out: %s", name, error)
        return found

    def claim(
        self,
        study: str,
        candidate: Candidate,
        number: int,
        *,
        limit: int | None = None,
        is_repeatable: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Reserve a candidate for trial `number`; False if it is another trial's.

        Asked again for the same trial it is still True, so a trial that is taken up keeps its
        candidate.

        Args:
            study: Name of the study.
            candidate: What the trial is to train.
            number: Optuna's number of the trial.
            limit: Most candidates that may be reserved in all; None means no limit.
            is_repeatable: Asked whether to give away what is reserved for a trial that failed.

        Raises:
            UnknownStudyError: If the study is not there.
            StorageError: If the database cannot be written.
        """
        with self._database.write() as connection:
            study_id = self._require_study(connection, study)
            key = {"study_id": study_id} | candidate_columns(candidate)
            note = {"number": int(number), "worker": _process(), "claimed_at": utc_now()}
            owner = connection.execute(select(CLAIMS).filter_by(**key)).mappings().first()
            if owner is None:
                if limit is not None and _num_claims(connection, study_id) >= limit:
                    return False
                connection.execute(insert(CLAIMS), key | note)
                return True
            if owner["number"] == number:
                return True
            # Before schema 4 a claim was nobody's until its trial started.
            is_free = owner["number"] is None or (
                _has_failed(connection, study_id, owner["number"]) and is_repeatable()
            )
            if is_free:
                connection.execute(update(CLAIMS).filter_by(**key).values(**note))
            return is_free

    def list_claims(self, study: str, *, unstarted: bool = False) -> list[Candidate]:
        """Load the candidates that some process has claimed, in order.

        Args:
            study: Name of the study.
            unstarted: True leaves out those whose trial is among the study's trials.

        Raises:
            UnknownStudyError: If the study is not there.
            StorageError: If the database cannot be read.
        """
        with self._database.read() as connection:
            query = select(CLAIMS).where(
                CLAIMS.c.study_id == self._require_study(connection, study)
            )
            if unstarted:
                of_trial = (STARTS.c.study_id == CLAIMS.c.study_id) & (
                    STARTS.c.number == CLAIMS.c.number
                )
                query = query.where(~exists().where(of_trial))
            return sorted(_candidate(row) for row in connection.execute(query).mappings())

    def save_start(
        self, study: str, number: int, candidate: Candidate, seed: int, choice: Choice
    ) -> None:
        """Store that a trial began and why; of a trial taken up again the first choice stays.

        Raises:
            UnknownStudyError: If the study is not there.
            StorageError: If this number is another candidate's or seed's, or on a failed write.
        """
        require_finite(choice, f"the choice of trial {number}")
        with self._database.write() as connection:
            of_study = self._require_row(connection, study)
            key = {"study_id": int(of_study["study_id"]), "number": int(number)}
            stored = connection.execute(select(STARTS).filter_by(**key)).mappings().first()
            if stored is None:
                row = candidate_columns(candidate) | {
                    "seed": int(seed),
                    "started_at": utc_now(),
                    **{name: v for name, v in asdict(choice).items() if name != "runners_up"},
                }
                connection.execute(insert(STARTS), key | row)
                insert_runners_up(connection, key["study_id"], key["number"], choice)
                insert_hyperparameters(connection, of_study, key["number"], candidate)
            elif (_candidate(stored), stored["seed"]) != (candidate, seed):
                raise StorageError(
                    f"Trial {number} of study `{study}` is {_candidate(stored)} with seed "
                    f"{stored['seed']}, not {candidate} with seed {seed}."
                )

    def save_measurement(self, study: str, number: int, measurement: Measurement) -> None:
        """Store what a started trial yielded; the same again changes nothing.

        Raises:
            UnknownStudyError: If the study is not there.
            StorageError: If a number is not finite, the trial was never started or has another
                outcome already, or the database cannot be written.
        """
        require_finite(measurement, f"trial {number}")
        self._save_outcome(study, number, measurement, insert_measurement)

    def save_failure(self, study: str, number: int, failure: Failure) -> None:
        """Store why a started trial yielded nothing; the same again changes nothing.

        Raises:
            UnknownStudyError: If the study is not there.
            StorageError: See `save_measurement`.
        """
        require_finite(failure, f"trial {number}")
        self._save_outcome(study, number, failure, insert_failure)

    def _save_outcome(
        self,
        study: str,
        number: int,
        outcome: _Outcome,
        insert_outcome: Callable[[Connection, int, int, _Outcome], None],
    ) -> None:
        with self._database.write() as connection:
            study_id = self._require_study(connection, study)
            start = select(STARTS.c.number).filter_by(study_id=study_id, number=number)
            if connection.execute(start).first() is None:
                raise StorageError(f"Trial {number} of study `{study}` was never started.")
            has_ended = bool(ended_of(connection, study_id, [number]))
            stored = _stored_outcome(connection, study_id, number) if has_ended else None
            if stored is None:
                insert_outcome(connection, study_id, number, outcome)
            elif stored != outcome:
                raise StorageError(
                    f"Trial {number} of study `{study}` is stored already with another "
                    f"{type(stored).__name__.lower()}; stored trials are never changed."
                )

    def _record(self, connection: Connection, known: Known, stamp: Stamp) -> StudyRecord:
        """Yield a study, reading the trials that are new or have ended since the last time."""
        if stamp != known.stamp:
            rows, starts = rows_of(connection), new_starts(connection, known, stamp)
            ended = newly_ended(connection, known, stamp)
            has_outcomes = stamp.num_ended != known.stamp.num_ended
            new = read_trials(rows, stamp.study_id, starts, has_outcomes=has_outcomes)
            new |= ended_trials(rows, stamp.study_id, [known.trials[n] for n in ended])
            known.trials = dict(sorted((known.trials | new).items()))
            known.study = replace(known.study, trials=tuple(known.trials.values()))
            if known.study.baseline is not None and not known.has_calibrations:
                known.study = with_calibrations(rows, known.study)
                known.has_calibrations = True
            known.stamp = stamp
        return known.study

    def _require_study(self, connection: Connection, name: str) -> int:
        return int(self._require_row(connection, name)["study_id"])

    def _require_row(self, connection: Connection, name: str) -> RowMapping:
        stored = self._rows.get(name) or _find_study(connection, name)
        if stored is None:
            rows = study_rows(rows_of(connection))
            raise UnknownStudyError(unknown_sentence(self._database.place, rows, name, None))
        self._rows[name] = stored
        return stored


def _candidate(row: RowMapping) -> Candidate:
    return candidate_of_row(dict(row))


def _process() -> str:
    return f"{platform.node()}:{os.getpid()}"


def _num_claims(connection: Connection, study_id: int) -> int:
    query = select(func.count()).select_from(CLAIMS).where(CLAIMS.c.study_id == study_id)
    return int(connection.execute(query).scalar_one())


def _has_failed(connection: Connection, study_id: int, number: int) -> bool:
    query = select(FAILURE_CAUSES.c.cause).filter_by(study_id=study_id, number=number)
    return connection.execute(query).first() is not None


def _find_study(connection: Connection, name: str) -> RowMapping | None:
    return connection.execute(select(STUDIES).where(STUDIES.c.name == name)).mappings().first()


def _require_same_study(stored: RowMapping, record: StudyRecord) -> None:
    for column, what in (
        ("config_hash", "another recipe"),
        ("task", "another task"),
        ("data_fingerprint", "other data"),
        ("seed", "another seed"),
    ):
        if stored[column] != getattr(record, column):
            raise StudyMismatchError(
                f"Study `{record.name}` was made with {what} (`{column}` {stored[column]}, now "
                f"{getattr(record, column)}). Give the same, or another database with `--storage`."
            )


def _replace_budgets(connection: Connection, study_id: int, budgets: Sequence[float]) -> None:
    connection.execute(delete(BUDGETS).where(BUDGETS.c.study_id == study_id))
    rows = [
        {"study_id": study_id, "position": position, "budget": float(budget)}
        for position, budget in enumerate(budgets)
    ]
    if rows:
        connection.execute(insert(BUDGETS), rows)


def _stored_outcome(
    connection: Connection, study_id: int, number: int
) -> Measurement | Failure | None:
    rows = rows_of(connection)
    measurement = read_measurements(rows, study_id, [number]).get(number)
    return measurement or read_failures(rows, study_id, [number]).get(number)
