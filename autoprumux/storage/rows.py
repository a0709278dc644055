"""Measurements, failures and choices as rows of our tables, and back."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, RowMapping, Table, insert, select

from autoprumux.errors import StorageError
from autoprumux.records import (
    Choice,
    Failure,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    Structure,
    Throughput,
)
from autoprumux.storage.migrations import utc_now
from autoprumux.storage.schema import (
    ENVIRONMENTS,
    FAILURE_CAUSES,
    MEASUREMENTS,
    PHASE_HISTORY,
    PHASES,
    THROUGHPUTS,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Record = TypeVar("_Record", bound="DataclassInstance")

Row = dict[str, Any]


def require_finite(record: object, owner: str) -> None:
    """Refuse NaN and infinity anywhere in `record`.

    Raises:
        StorageError: If a number is not finite; `owner` says whose it is.
    """
    for name, value in _numbers(record, ""):
        if not math.isfinite(value):
            raise StorageError(f"`{name}` of {owner} must be a finite number, got {value}.")


def insert_measurement(
    connection: Connection, study_id: int, number: int, measurement: Measurement
) -> None:
    """Write a measurement to its five tables."""
    key = {"study_id": study_id, "number": number}
    for table, rows in _measurement_rows(measurement).items():
        if rows:
            connection.execute(insert(table), [key | row for row in rows])


def insert_failure(connection: Connection, study_id: int, number: int, failure: Failure) -> None:
    """Write why a trial yielded nothing."""
    row = asdict(failure) | {"study_id": study_id, "number": number, "finished_at": utc_now()}
    connection.execute(insert(FAILURE_CAUSES), row)


def read_measurements(
    connection: Connection, study_id: int, number: int | None = None
) -> dict[int, Measurement]:
    """Yield the measurements of a study by trial number, or that of one trial."""
    throughputs = _by_trial(connection, THROUGHPUTS, study_id, number)
    phases = _by_trial(connection, PHASES, study_id, number)
    history = _by_trial(connection, PHASE_HISTORY, study_id, number)
    environments = _by_trial(connection, ENVIRONMENTS, study_id, number)
    return {
        trial: _measurement(
            row[0], throughputs[trial][0], phases[trial], history[trial], environments[trial]
        )
        for trial, row in _by_trial(connection, MEASUREMENTS, study_id, number).items()
    }


def read_failures(
    connection: Connection, study_id: int, number: int | None = None
) -> dict[int, Failure]:
    """Yield the failures of a study by trial number, or that of one trial."""
    rows = _by_trial(connection, FAILURE_CAUSES, study_id, number)
    return {trial: _pick(Failure, row[0]) for trial, row in rows.items()}


def choice_of(start: RowMapping) -> Choice:
    """Yield why the candidate of a started trial was chosen."""
    return _pick(Choice, start)


def _numbers(value: object, name: str) -> list[tuple[str, float]]:
    if is_dataclass(value) and not isinstance(value, type):
        items = [(item.name, getattr(value, item.name)) for item in fields(value)]
    elif isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = [(name, item) for item in value]
    else:
        return [(name, float(value))] if isinstance(value, float) else []
    return [number for key, item in items for number in _numbers(item, key)]


def _measurement_rows(measurement: Measurement) -> dict[Table, list[Row]]:
    """Yield the rows by table, parents before children; numpy's numbers become Python's."""
    structure = measurement.structure
    nested = ("throughput", "structure", "phases", "environment")
    main = _plain(measurement, without=nested) | _plain(structure)
    main["head_counts"] = json.dumps([int(count) for count in structure.head_counts])
    main["feedforward_sizes"] = json.dumps([int(size) for size in structure.feedforward_sizes])
    main["finished_at"] = utc_now()
    environment = [{"name": key, "value": item} for key, item in measurement.environment.items()]
    return {
        MEASUREMENTS: [main],
        THROUGHPUTS: [_plain(measurement.throughput) | {"position": 0}],
        PHASES: [
            _plain(phase, without=("history",)) | {"position": position}
            for position, phase in enumerate(measurement.phases)
        ],
        PHASE_HISTORY: [
            _plain(point) | {"phase_position": phase_position, "position": position}
            for phase_position, phase in enumerate(measurement.phases)
            for position, point in enumerate(phase.history)
        ],
        ENVIRONMENTS: environment,
    }


def _plain(record: Any, *, without: Sequence[str] = ()) -> Row:
    """Yield a flat record as a row, numpy's numbers as Python's."""
    values = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in without}
    return {
        name: value.item() if hasattr(value, "item") else value for name, value in values.items()
    }


def _by_trial(
    connection: Connection, table: Table, study_id: int, number: int | None
) -> defaultdict[int, list[RowMapping]]:
    query = select(table).where(table.c.study_id == study_id).order_by(*table.primary_key)
    if number is not None:
        query = query.where(table.c.number == number)
    rows: defaultdict[int, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        rows[row["number"]].append(row)
    return rows


def _measurement(
    row: RowMapping,
    throughput: RowMapping,
    phases: Sequence[RowMapping],
    history: Sequence[RowMapping],
    environment: Sequence[RowMapping],
) -> Measurement:
    points: defaultdict[int, list[HistoryPoint]] = defaultdict(list)
    for point in history:
        points[point["phase_position"]].append(_pick(HistoryPoint, point))
    return _pick(
        Measurement,
        row,
        correctness=bytes(row["correctness"]),
        throughput=_pick(Throughput, throughput),
        structure=_pick(
            Structure,
            row,
            head_counts=tuple(json.loads(row["head_counts"])),
            feedforward_sizes=tuple(json.loads(row["feedforward_sizes"])),
        ),
        phases=tuple(
            _pick(PhaseRecord, phase, history=tuple(points[phase["position"]])) for phase in phases
        ),
        environment={entry["name"]: entry["value"] for entry in environment},
    )


def _pick(kind: type[_Record], row: RowMapping, **given: object) -> _Record:
    """Make a record from the columns named like its fields, and from `given` for the others."""
    columns = {f.name: row[f.name] for f in fields(kind) if f.name not in given}
    return kind(**columns, **given)
