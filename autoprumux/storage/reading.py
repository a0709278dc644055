"""Records from the rows of our tables, whichever library fetched them.

Nothing here needs SQLAlchemy, so that a query which reads an SQLite file need not load it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from autoprumux.errors import UnknownStudyError
from autoprumux.records import (
    Calibration,
    Candidate,
    Choice,
    DeviceProfile,
    EncoderFacts,
    EncoderShape,
    Failure,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    RunnerUp,
    ShapeTiming,
    Structure,
    StudyRecord,
    Throughput,
    TrialRecord,
    TrialState,
)
from autoprumux.storage.checks import (
    bytes_of,
    check_config,
    checked_columns,
    damaged,
    numbers_of,
    object_of,
    sizes_of,
    stored_candidate,
    stored_measurement,
    stored_throughput,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

StoredRow = Mapping[str, Any]
Wanted = int | str | Sequence[int]
"""What a column must equal."""

FEW_TRIALS = 50
"""Trials up to which reading these alone costs less than reading a long study anew."""

_DETAILS = frozenset({"prumux_phases", "prumux_phase_history", "prumux_runners_up"})
"""Tables that no answer needs."""

_COMPARED = "processor"
"""What answers need of an environment: speeds of two processors cannot be compared."""

_Record = TypeVar("_Record", bound="DataclassInstance")


@dataclass(frozen=True)
class StudyRow:
    """The columns of `prumux_studies` that are read before its record is made."""

    study_id: int
    name: str
    task: str
    updated_at: str


class Rows(Protocol):
    """Fetches rows of our tables; all calls see one state of the database."""

    def __call__(self, table: str, /, **where: Wanted) -> Sequence[StoredRow]:
        """Yield the rows whose columns equal `where`, in the order of the primary key.

        Of several numbers a column may equal any.
        """


def read_study(
    rows: Rows, place: str, name: str | None, task: str | None, *, is_brief: bool = False
) -> StudyRecord:
    """Yield the study of this name and task with its trials; the one searched last of several.

    Args:
        rows: The database.
        place: The database as error messages name it.
        name: None takes any.
        task: None takes any.
        is_brief: True leaves out what no answer rests on: phases with their histories,
            environments but for the processor, and runners-up, which are nine rows in ten.

    Raises:
        UnknownStudyError: If there is none; the message lists what is there.
    """
    row = find_study(rows, place, name, task)
    starts = rows("prumux_starts", study_id=row["study_id"])
    source = _brief(rows) if is_brief else rows
    return study_of(rows, row, tuple(read_trials(source, row["study_id"], starts).values()))


def find_study(rows: Rows, place: str, name: str | None, task: str | None) -> StoredRow:
    """Yield the row of the study that `read_study` would read; see there."""
    stored = study_rows(rows)
    for row in stored:
        if name in (None, row["name"]) and task in (None, row["task"]):
            return row
    raise UnknownStudyError(unknown_sentence(place, stored, name, task))


def study_rows(rows: Rows) -> list[StoredRow]:
    """Yield all studies, the one searched last first."""
    found = rows("prumux_studies")
    for row in found:
        checked_columns(StudyRow, row)
    stored = sorted(found, key=lambda row: int(row["study_id"]), reverse=True)
    return sorted(stored, key=lambda row: str(row["updated_at"]), reverse=True)


def study_of(rows: Rows, row: StoredRow, trials: tuple[TrialRecord, ...]) -> StudyRecord:
    """Yield the record of a study's row."""
    budgets = rows("prumux_budgets", study_id=row["study_id"])
    return _pick(
        StudyRecord,
        row,
        config=check_config(row["config_json"]),
        budgets=numbers_of([budget["budget"] for budget in budgets], "prumux_budgets", "budget"),
        trials=trials,
        calibrations=(),
    )


def unknown_sentence(
    place: str, rows: Sequence[StoredRow], name: str | None, task: str | None
) -> str:
    """Yield what to say of a study that is not there."""
    if not rows:
        return f"{place} holds no studies yet. Run `autoprumux search` first."
    wanted = "study" + (f" `{name}`" if name else "") + (f" of task `{task}`" if task else "")
    stored = ", ".join(f"`{row['name']}` (task `{row['task']}`)" for row in rows)
    return f"{place} holds no {wanted}; it holds {stored}."


def read_trials(
    rows: Rows, study_id: int, starts: Sequence[StoredRow], *, has_outcomes: bool = True
) -> dict[int, TrialRecord]:
    """Yield the trials of these rows of `prumux_starts` by number.

    Few of them are read alone, many with all others of their study.

    Args:
        rows: The database.
        study_id: Of the study.
        starts: The rows.
        has_outcomes: False if none of them has ended.
    """
    if not starts:
        return {}
    wanted = _few([row["number"] for row in starts])
    measurements = read_measurements(rows, study_id, wanted) if has_outcomes else {}
    failures = read_failures(rows, study_id, wanted) if has_outcomes else {}
    others = read_runners_up(rows, study_id, wanted)
    return {
        row["number"]: _trial(
            row,
            _pick(Choice, row, runners_up=others.get(row["number"], ())),
            measurements.get(row["number"]),
            failures.get(row["number"]),
        )
        for row in starts
    }


def ended_trials(
    rows: Rows, study_id: int, trials: Sequence[TrialRecord]
) -> dict[int, TrialRecord]:
    """Yield trials that were running when they were read, and have an outcome by now."""
    if not trials:
        return {}
    wanted = _few([trial.number for trial in trials])
    measurements = read_measurements(rows, study_id, wanted)
    failures = read_failures(rows, study_id, wanted)
    return {
        trial.number: _with_outcome(
            trial, measurements.get(trial.number), failures.get(trial.number)
        )
        for trial in trials
    }


def read_measurements(
    rows: Rows, study_id: int, numbers: Sequence[int] | None = None
) -> dict[int, Measurement]:
    """Yield the measurements of a study by trial number, or those of some trials."""
    key = _key(study_id, numbers)
    throughputs = _by_trial(rows("prumux_throughputs", position=0, **key))
    phases = _by_trial(rows("prumux_phases", **key))
    history = _by_trial(rows("prumux_phase_history", **key))
    environments = _environments(rows("prumux_environments", **key))
    measured = _by_trial(rows("prumux_measurements", **key))
    for trial in measured:
        if not throughputs[trial]:
            raise damaged(f"trial {trial} has a measurement and no throughput")
    return {
        trial: _measurement(
            found[0], throughputs[trial][0], phases[trial], history[trial], environments[trial]
        )
        for trial, found in measured.items()
    }


def read_failures(
    rows: Rows, study_id: int, numbers: Sequence[int] | None = None
) -> dict[int, Failure]:
    """Yield the failures of a study by trial number, or those of some trials."""
    key = _key(study_id, numbers)
    found = _by_trial(rows("prumux_failure_causes", **key))
    return {trial: _pick(Failure, row[0]) for trial, row in found.items()}


def read_runners_up(
    rows: Rows, study_id: int, numbers: Sequence[int] | None = None
) -> dict[int, tuple[RunnerUp, ...]]:
    """Yield the runners-up of a study's choices by trial number, or those of some trials."""
    key = _key(study_id, numbers)
    found = _by_trial(rows("prumux_runners_up", **key))
    return {
        trial: tuple(_pick(RunnerUp, row, candidate=candidate_of_row(row)) for row in others)
        for trial, others in found.items()
    }


def read_profiles(rows: Rows) -> list[DeviceProfile]:
    """Yield all device profiles by name."""
    return [_pick(DeviceProfile, row) for row in rows("prumux_profiles")]


def read_profile_throughputs(rows: Rows, study: str, profile: str) -> dict[int, Throughput]:
    """Yield what was measured of a study under a profile, by trial; the latest of several."""
    (stored,) = rows("prumux_studies", name=study)
    found = rows("prumux_throughputs", study_id=stored["study_id"], profile=profile)
    return {row["number"]: _throughput(row) for row in found}  # later positions last


def read_calibrations(rows: Rows, profile: str) -> list[Calibration]:
    """Yield the calibrations of a profile, the oldest first."""
    return [
        _pick(
            Calibration,
            row,
            encoder=_pick(EncoderFacts, object_of(row["encoder_json"], "encoder_json")),
            coefficients=numbers_of(
                row["coefficients_json"], "prumux_calibrations", "coefficients_json"
            ),
            timings=tuple(
                _pick(ShapeTiming, timing, shape=_pick(EncoderShape, timing, **_sizes(timing)))
                for timing in rows(
                    "prumux_calibration_timings", calibration_id=row["calibration_id"]
                )
            ),
        )
        for row in rows("prumux_calibrations", profile=profile)
    ]


def candidate_of_row(row: StoredRow) -> Candidate:
    """Yield the candidate of a row that names one."""
    return stored_candidate(row["num_instances"], row["sparsity"], row["hyperparameters"])


def _key(study_id: int, numbers: Sequence[int] | None) -> dict[str, Wanted]:
    """Yield what the rows of these trials equal, or of all of a study."""
    key: dict[str, Wanted] = {"study_id": study_id}
    return key if numbers is None else key | {"number": numbers}


def _few(numbers: Sequence[Any]) -> Sequence[int] | None:
    """Yield the numbers, or None if all trials of the study are better read at once."""
    is_few = len(numbers) <= FEW_TRIALS and all(map(_is_number, numbers))
    return numbers if is_few else None


def _is_number(stored: object) -> bool:
    return type(stored) is int and stored >= 0


def _brief(rows: Rows) -> Rows:
    """Yield rows as if no others than answers need were there."""

    def fetch(table: str, /, **where: Wanted) -> Sequence[StoredRow]:
        if table == "prumux_environments":
            return rows(table, name=_COMPARED, **where)
        return () if table in _DETAILS else rows(table, **where)

    return fetch


def _trial(
    start: StoredRow,
    choice: Choice,
    measurement: Measurement | None,
    failure: Failure | None,
) -> TrialRecord:
    number = start["number"]
    if not _is_number(number):
        raise damaged(f"a trial has the number {f'{number!r:.80}'}")
    return TrialRecord(
        number=number,
        candidate=candidate_of_row(start),
        state=_state(measurement, failure),
        choice=choice,
        measurement=measurement,
        failure=failure,
    )


def _with_outcome(
    trial: TrialRecord, measurement: Measurement | None, failure: Failure | None
) -> TrialRecord:
    state = _state(measurement, failure)
    return replace(trial, state=state, measurement=measurement, failure=failure)


def _state(measurement: Measurement | None, failure: Failure | None) -> TrialState:
    return "complete" if measurement else "failed" if failure else "running"


def _by_trial(rows: Sequence[StoredRow]) -> defaultdict[int, list[StoredRow]]:
    by_trial: defaultdict[int, list[StoredRow]] = defaultdict(list)
    for row in rows:
        by_trial[row["number"]].append(row)
    return by_trial


def _environments(rows: Sequence[StoredRow]) -> defaultdict[int, dict[str, str]]:
    by_trial: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for row in rows:
        by_trial[row["number"]][str(row["name"])] = str(row["value"])
    return by_trial


def _measurement(
    row: StoredRow,
    throughput: StoredRow,
    phases: Sequence[StoredRow],
    history: Sequence[StoredRow],
    environment: Mapping[str, str],
) -> Measurement:
    points: defaultdict[int, list[HistoryPoint]] = defaultdict(list)
    for point in history:
        points[point["phase_position"]].append(_pick(HistoryPoint, point))
    measurement = _pick(
        Measurement,
        row,
        correctness=bytes_of(row["correctness"], "correctness"),
        throughput=_unchecked_throughput(throughput),
        structure=_pick(Structure, row, **_sizes(row)),
        phases=tuple(
            _pick(
                PhaseRecord,
                phase,
                is_cached=_truth(phase["is_cached"]),
                history=tuple(points[phase["position"]]),
            )
            for phase in phases
        ),
        environment=environment,
    )
    return stored_measurement(measurement)


def _throughput(row: StoredRow) -> Throughput:
    return stored_throughput(_unchecked_throughput(row))


def _unchecked_throughput(row: StoredRow) -> Throughput:
    """Yield the speeds of a row; those of a measurement are checked with it."""
    return _pick(Throughput, row, is_clean=_truth(row["is_clean"]))


def _truth(stored: int | None) -> bool | None:
    """Yield a boolean column's value; SQLite's driver alone knows no booleans."""
    return None if stored is None else bool(stored)


def _sizes(row: StoredRow) -> dict[str, tuple[int, ...]]:
    return {name: sizes_of(row[name], name) for name in ("head_counts", "feedforward_sizes")}


def _pick(kind: type[_Record], row: StoredRow, **given: object) -> _Record:
    """Make a record from the columns named like its fields, and from `given` for the others."""
    return kind(**checked_columns(kind, row, without=given.keys()), **given)
