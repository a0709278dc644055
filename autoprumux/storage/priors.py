"""Which trials of other studies a search took as its prior, so that it goes on with the same ones.

Other studies go on meanwhile, and which of them was searched last changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, insert, select, update

from autoprumux.errors import UnknownStudyError
from autoprumux.storage.database import Database
from autoprumux.storage.migrations import utc_now
from autoprumux.storage.schema import PRIOR_TRIALS, STUDIES

Served = Mapping[str, frozenset[int]]
"""Numbers of the trials that served, by study, the one that counts most first."""


@dataclass(frozen=True)
class PriorBook:
    """The prior of one study, the same for all of its processes."""

    database: Database
    study: str

    def load(self) -> Served | None:
        """Yield what serves the study, nothing included; None while nobody has looked.

        Raises:
            UnknownStudyError: If the study is not there.
            StorageError: If the database cannot be read.
        """
        with self.database.read() as connection:
            study = self._study(connection)
            return None if study["prior_at"] is None else _read(connection, study["study_id"])

    def keep(self, served: Served) -> Served:
        """Store what serves the study unless that is stored, and yield what is stored.

        Raises:
            UnknownStudyError: If a study is not there.
            StorageError: If the database cannot be written.
        """
        with self.database.write() as connection:
            study = self._study(connection)
            if study["prior_at"] is None:
                _write(connection, study["study_id"], served)
            return _read(connection, study["study_id"])

    def _study(self, connection: Connection) -> RowMapping:
        query = select(STUDIES).where(STUDIES.c.name == self.study)
        found = connection.execute(query).mappings().first()
        if found is None:
            raise UnknownStudyError(f"{self.database.place} holds no study `{self.study}`.")
        return found


def _write(connection: Connection, study_id: int, served: Served) -> None:
    named = select(STUDIES.c.name, STUDIES.c.study_id).where(STUDIES.c.name.in_(list(served)))
    ids = {row.name: row.study_id for row in connection.execute(named)}
    rows = [
        {"study_id": study_id, "position": position, "number": number, "prior_id": ids[name]}
        for position, (name, numbers) in enumerate(served.items(), start=1)
        for number in sorted(numbers)
    ]
    if rows:
        connection.execute(insert(PRIOR_TRIALS), rows)
    of_study = STUDIES.c.study_id == study_id
    connection.execute(update(STUDIES).where(of_study).values(prior_at=utc_now()))


def _read(connection: Connection, study_id: int) -> Served:
    query = (
        select(STUDIES.c.name, PRIOR_TRIALS.c.number)
        .join(STUDIES, STUDIES.c.study_id == PRIOR_TRIALS.c.prior_id)
        .where(PRIOR_TRIALS.c.study_id == study_id)
        .order_by(PRIOR_TRIALS.c.position, PRIOR_TRIALS.c.number)
    )
    served: dict[str, set[int]] = {}
    for row in connection.execute(query):
        served.setdefault(row.name, set()).add(row.number)
    return {name: frozenset(numbers) for name, numbers in served.items()}
