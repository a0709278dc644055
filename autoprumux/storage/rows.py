"""Records as rows of our tables; `reading.py` leads back."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, insert

from autoprumux.errors import StorageError
from autoprumux.hyperparameters import stored_values
from autoprumux.records import Candidate, Choice, Failure, Measurement
from autoprumux.storage.migrations import utc_now
from autoprumux.storage.schema import (
    ENVIRONMENTS,
    FAILURE_CAUSES,
    HYPERPARAMETERS,
    MEASUREMENTS,
    PHASE_HISTORY,
    PHASES,
    RUNNERS_UP,
    THROUGHPUTS,
)

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


def insert_runners_up(connection: Connection, study_id: int, number: int, choice: Choice) -> None:
    """Write the candidates that a choice was made before; positions count from 1."""
    rows = [
        plain_row(other, without=("candidate",))
        | candidate_columns(other.candidate)
        | {"study_id": study_id, "number": number, "position": position}
        for position, other in enumerate(choice.runners_up, start=1)
    ]
    if rows:
        connection.execute(insert(RUNNERS_UP), rows)


def insert_hyperparameters(
    connection: Connection, study: RowMapping, number: int, candidate: Candidate
) -> None:
    """Write the value of every searched hyperparameter, whether the trial changed it or not."""
    changed = dict(candidate.hyperparameters)
    rows = [
        {
            "study_id": study["study_id"],
            "number": number,
            "name": name,
            "value": value if isinstance(value, str) else json.dumps(value),
            "is_own": name not in changed,
        }
        for name, value in stored_values(json.loads(study["config_json"]), candidate).items()
    ]
    if rows:
        connection.execute(insert(HYPERPARAMETERS), rows)


def candidate_columns(candidate: Candidate) -> Row:
    """Yield the columns that name a candidate."""
    return {
        "num_instances": int(candidate.num_instances),
        "sparsity": candidate.sparsity,
        "hyperparameters": json.dumps(dict(candidate.hyperparameters)),
    }


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
    main = plain_row(measurement, without=nested) | plain_row(structure)
    main["head_counts"] = json.dumps([int(count) for count in structure.head_counts])
    main["feedforward_sizes"] = json.dumps([int(size) for size in structure.feedforward_sizes])
    main["finished_at"] = utc_now()
    environment = [{"name": key, "value": item} for key, item in measurement.environment.items()]
    return {
        MEASUREMENTS: [main],
        THROUGHPUTS: [plain_row(measurement.throughput) | {"position": 0}],
        PHASES: [
            plain_row(phase, without=("history",)) | {"position": position}
            for position, phase in enumerate(measurement.phases)
        ],
        PHASE_HISTORY: [
            plain_row(point) | {"phase_position": phase_position, "position": position}
            for phase_position, phase in enumerate(measurement.phases)
            for position, point in enumerate(phase.history)
        ],
        ENVIRONMENTS: environment,
    }


def plain_row(record: Any, *, without: Sequence[str] = ()) -> Row:
    """Yield a flat record as a row, numpy's numbers as Python's."""
    values = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in without}
    return {
        name: value.item() if hasattr(value, "item") else value for name, value in values.items()
    }
