"""Save and load device profiles: throughputs of stored trials and calibrations, by machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from itertools import chain, count

from sqlalchemy import Connection, func, insert, select

from autoprumux.errors import StorageError, UsageError
from autoprumux.records import Calibration, DeviceProfile, EncoderShape, Throughput
from autoprumux.storage.database import Database
from autoprumux.storage.fetching import rows_of
from autoprumux.storage.migrations import utc_now
from autoprumux.storage.reading import read_calibrations, read_profiles
from autoprumux.storage.rows import Row, plain_row, require_finite
from autoprumux.storage.schema import (
    CALIBRATION_TIMINGS,
    CALIBRATIONS,
    MEASUREMENTS,
    PROFILES,
    STARTS,
    STUDIES,
    THROUGHPUTS,
)


class ProfileRepository:
    """The device profiles of one database; what is stored is added to, never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def require_same(self, profile: DeviceProfile) -> None:
        """Refuse a name that stands for another machine or setting already.

        Raises:
            UsageError: If it does; names what differs.
            StorageError: If the database cannot be read.
        """
        with self._database.read() as connection:
            _require_same(connection, profile)

    def under_free_name(self, profile: DeviceProfile) -> tuple[DeviceProfile, list[Calibration]]:
        """Yield the setting of a profile under the name that it is stored under, or a free one.

        Args:
            profile: Setting under the name that it would have.

        Returns:
            The profile, and the calibrations that are stored for its setting.

        Raises:
            StorageError: If the database cannot be read.
        """
        with self._database.read() as connection:
            rows = rows_of(connection)
            stored = read_profiles(rows)
            same = [p for p in stored if p.timing == profile.timing]
            known = [c for p in same for c in read_calibrations(rows, p.name)]
        taken = {p.name for p in stored}
        others = (f"{profile.name}-{number}" for number in count(2))
        name = next(n for n in chain([profile.name], others) if n not in taken)
        return (same[0] if same else replace(profile, name=name)), known

    def has_trials(self, study: str) -> bool:
        """Yield whether a study is stored and has begun a trial.

        Raises:
            StorageError: If the database cannot be read.
        """
        with self._database.read() as connection:
            query = (
                select(STARTS.c.number)
                .join(STUDIES, STUDIES.c.study_id == STARTS.c.study_id)
                .where(STUDIES.c.name == study)
            )
            return connection.execute(query.limit(1)).first() is not None

    def save_throughputs(
        self, profile: DeviceProfile, study: str, measured: Sequence[tuple[int, Throughput]]
    ) -> None:
        """Store what trials of a study reach under a profile; of several, the latest counts.

        Raises:
            UsageError: If the name of the profile stands for another setting.
            StorageError: If a number is not finite, a trial is not there, or on a failed write.
        """
        for number, throughput in measured:
            require_finite(throughput, f"the throughput of trial {number}")
        with self._database.write() as connection:
            _save_profile(connection, profile)
            for number, throughput in measured:
                key = _trial_key(connection, study, number)
                last = select(func.max(THROUGHPUTS.c.position)).filter_by(**key)
                position = int(connection.execute(last).scalar() or 0) + 1
                row = key | {"position": position, "profile": profile.name}
                connection.execute(insert(THROUGHPUTS), row | plain_row(throughput))

    def save_calibration(self, profile: DeviceProfile, calibration: Calibration) -> None:
        """Store a calibration; of several for the same encoder, the latest counts.

        Raises:
            UsageError: If the name of the profile stands for another setting.
            StorageError: If a number is not finite, or on a failed write.
        """
        require_finite(calibration, "the calibration")
        nested = ("encoder", "coefficients", "timings")
        row = plain_row(calibration, without=nested) | {
            "encoder_json": json.dumps(asdict(calibration.encoder), sort_keys=True),
            "coefficients_json": json.dumps([float(c) for c in calibration.coefficients]),
            "created_at": utc_now(),
        }
        with self._database.write() as connection:
            _save_profile(connection, profile)
            result = connection.execute(insert(CALIBRATIONS), row)
            (calibration_id,) = result.inserted_primary_key or (None,)
            rows = [
                {"calibration_id": calibration_id, "position": position}
                | plain_row(timing, without=("shape",))
                | _shape_row(timing.shape)
                for position, timing in enumerate(calibration.timings)
            ]
            connection.execute(insert(CALIBRATION_TIMINGS), rows)


def _shape_row(shape: EncoderShape) -> Row:
    sizes = {name: getattr(shape, name) for name in ("head_counts", "feedforward_sizes")}
    texts = {name: json.dumps([int(size) for size in found]) for name, found in sizes.items()}
    return plain_row(shape, without=tuple(sizes)) | texts


def _save_profile(connection: Connection, profile: DeviceProfile) -> None:
    if not _require_same(connection, profile):
        connection.execute(insert(PROFILES), plain_row(profile) | {"created_at": utc_now()})


def _require_same(connection: Connection, profile: DeviceProfile) -> bool:
    """Yield whether the profile is stored already.

    Raises:
        UsageError: If one of its name is, with another setting.
    """
    stored = {p.name: p for p in read_profiles(rows_of(connection))}.get(profile.name)
    if stored is None:
        return False
    for name in (field.name for field in fields(DeviceProfile)):
        before, now = getattr(stored, name), getattr(profile, name)
        if before != now:
            raise UsageError(
                f"Profile `{profile.name}` stands for `{name}` {before!r}, here it is {now!r}; "
                "give another name with `--name`."
            )
    return True


def _trial_key(connection: Connection, study: str, number: int) -> dict[str, int]:
    found = connection.execute(
        select(MEASUREMENTS.c.study_id, MEASUREMENTS.c.number)
        .join(STUDIES, STUDIES.c.study_id == MEASUREMENTS.c.study_id)
        .where(STUDIES.c.name == study, MEASUREMENTS.c.number == number)
    ).first()
    if found is None:
        raise StorageError(f"Trial {number} of study `{study}` has no stored measurement.")
    return {"study_id": int(found[0]), "number": int(found[1])}
