"""What of a stored study has changed since it was last read, asked in as few statements as can be.

Starts and outcomes are never changed, so their counts tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import (
    Connection,
    ScalarSelect,
    Table,
    bindparam,
    func,
    select,
    union,
)

from autoprumux.records import StudyRecord, TrialRecord
from autoprumux.storage.reading import StoredRow
from autoprumux.storage.schema import FAILURE_CAUSES, MEASUREMENTS, STARTS, STUDIES


@dataclass(frozen=True)
class Stamp:
    """What tells whether a study has changed."""

    study_id: int
    updated_at: str
    num_starts: int = 0
    num_ended: int = 0


@dataclass
class Known:
    """What is read of a study."""

    study: StudyRecord
    stamp: Stamp
    """Of the time when `study` was read."""
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    """In order of their number."""
    has_calibrations: bool = False
    """Whether those of its setting have been looked for; later ones count in later processes."""


def _count(table: Table) -> ScalarSelect[int]:
    of_study = table.c.study_id == STUDIES.c.study_id
    query = select(func.count()).select_from(table).where(of_study)
    return query.correlate(STUDIES).scalar_subquery()


_STAMP = select(
    STUDIES.c.study_id,
    STUDIES.c.updated_at,
    _count(STARTS),
    _count(MEASUREMENTS) + _count(FAILURE_CAUSES),
).where(STUDIES.c.name == bindparam("wanted"))

_BELOW_ALL = -(2**31)
"""Below every number, also those of a damaged database."""
_STARTS_AFTER = (
    select(STARTS)
    .where(STARTS.c.study_id == bindparam("study"), STARTS.c.number > bindparam("last"))
    .order_by(STARTS.c.number)
)
_ENDED = union(
    *(
        select(table.c.number).where(
            table.c.study_id == bindparam("study"),
            table.c.number.in_(bindparam("numbers", expanding=True)),
        )
        for table in (MEASUREMENTS, FAILURE_CAUSES)
    )
)


def stamp_of(connection: Connection, name: str) -> Stamp | None:
    """Yield the stamp of a study, in one statement; None if it is not there."""
    row = connection.execute(_STAMP, {"wanted": name}).first()
    return None if row is None else Stamp(*row)


def new_starts(connection: Connection, known: Known, stamp: Stamp) -> list[StoredRow]:
    """Yield the starts of trials that are not known."""
    if stamp.num_starts <= len(known.trials):
        return []
    # They are seldom others than the last ones. Of several workers one may start a smaller
    # number later than another a larger one; the count tells.
    new = _starts_after(connection, stamp.study_id, max(known.trials, default=-1))
    if stamp.num_starts == len(known.trials) + len(new):
        return new
    every = _starts_after(connection, stamp.study_id, _BELOW_ALL)
    return [row for row in every if row["number"] not in known.trials]


def newly_ended(connection: Connection, known: Known, stamp: Stamp) -> list[int]:
    """Yield which trials that are known as running have an outcome by now."""
    if stamp.num_ended == known.stamp.num_ended:
        return []
    running = [number for number, trial in known.trials.items() if trial.state == "running"]
    return ended_of(connection, stamp.study_id, running)


def _starts_after(connection: Connection, study_id: int, number: int) -> list[StoredRow]:
    found = connection.execute(_STARTS_AFTER, {"study": study_id, "last": number})
    return [dict(row) for row in found.mappings()]


def ended_of(connection: Connection, study_id: int, numbers: Sequence[int]) -> list[int]:
    """Yield which of some trials have an outcome by now."""
    if not numbers:
        return []
    found = connection.execute(_ENDED, {"study": study_id, "numbers": numbers})
    return sorted(found.scalars())
