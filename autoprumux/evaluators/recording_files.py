"""Recordings as files that show in a diff what changed.

`NAME.csv` has one row per (N, s, seed), so a new trial is one new line; `NAME.json` holds what is
true of all rows: recipe, commands, versions, hardware, data fingerprint and date. The header is
JSON because the standard library reads and writes it.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from autoprumux.checks import check_candidate, check_measurement
from autoprumux.errors import StorageError, UsageError
from autoprumux.evaluators.recording import RecordedTrial, Recording
from autoprumux.leftovers import whole_file
from autoprumux.records import (
    Failure,
    FailureCause,
    Measurement,
    PhaseRecord,
    Structure,
    Throughput,
    known_cause,
)

FORMAT = 1
"""Version of the two files; a reader refuses any other."""

_HYPERPARAMETERS = "hyperparameters"
"""Column of the values that differ from the study's own, JSON; older recordings lack it."""
_TRAINED = "trained"
"""Key of the header that recordings have whose speeds were measured anew."""
MAX_BYTES, MAX_ROWS = 1 << 26, 100_000
"""Of a file; the recordings that ship have some hundred rows."""

_LATER_COLUMNS = ("baseline_spread", "is_clean")
"""Columns that older recordings lack."""

_Record = TypeVar("_Record")
Row = dict[str, str]


def save_recording(recording: Recording, directory: Path) -> tuple[Path, Path]:
    """Write the header and the rows of a recording, each in one step, and yield their paths.

    Raises:
        StorageError: If a file cannot be written.
    """
    header = {"format": FORMAT} | asdict(recording)
    del header["name"], header["trials"]
    if not recording.trained:
        del header[_TRAINED]
    header_file = directory / f"{recording.name}.json"
    rows_file = directory / f"{recording.name}.csv"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with whole_file(header_file) as new_header, whole_file(rows_file) as new_rows:
            text = json.dumps(header, indent=2, allow_nan=False) + "\n"
            new_header.write_text(text, encoding="utf-8")
            new_rows.write_text(_to_csv(recording.trials), encoding="utf-8", newline="")
    except OSError as error:
        place = directory / recording.name
        raise StorageError(f"`{place}` cannot be written: {error.strerror}.") from error
    return header_file, rows_file


def load_recording(name_or_path: str) -> Recording:
    """Read a recording that ships with the package by its name, or another one by a path.

    Args:
        name_or_path: `NAME`, or the path of either file (recognised by `.csv` or `.json`).

    Raises:
        UsageError: If there is none of this name, or a file cannot be read or understood.
    """
    place, name = _find(name_or_path)
    header = _read_header(place.joinpath(f"{name}.json"))
    rows_file = place.joinpath(f"{name}.csv")
    trials = list(_parse_rows(_read_text(rows_file), rows_file.name))
    _require_one_row_each(trials, rows_file.name)
    return Recording(
        name=name,
        task=header["task"],
        data_fingerprint=header["data_fingerprint"],
        trainer=header["trainer"],
        commands=tuple(header["commands"]),
        environment={key: tuple(values) for key, values in header["environment"].items()},
        recorded=header["recorded"],
        trials=tuple(trials),
        trained={key: tuple(values) for key, values in header.get(_TRAINED, {}).items()},
    )


def _parse_rows(text: str, label: str) -> Iterator[RecordedTrial]:
    lines = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for number, row in enumerate(lines):
            if number >= MAX_ROWS:
                raise UsageError(f"{label} has more than {MAX_ROWS} rows.")
            yield _parse_row(row, f"{label}, line {lines.line_num}")
    except csv.Error as error:
        raise UsageError(f"{label}, line {lines.line_num}: {error}.") from error


def _find(name_or_path: str) -> tuple[Traversable, str]:
    path = Path(name_or_path)
    if path.suffix in (".csv", ".json"):
        return path.parent, path.stem
    shipped = resources.files("studies").joinpath("recorded")
    names = sorted(f.name[:-4] for f in shipped.iterdir() if f.name.endswith(".csv"))
    if name_or_path not in names:
        known = f"there are {', '.join(names)}" if names else "none ships with this version"
        raise UsageError(
            f"`--recorded` {name_or_path!r} is unknown; {known}, or give the path of a .csv file."
        )
    return shipped, name_or_path


def _read_text(file: Traversable) -> str:
    try:
        if not file.is_file() and isinstance(file, Path) and file.exists() and not file.is_dir():
            raise UsageError(f"{file} cannot be read: it is a pipe or a device.")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{file} cannot be read: it has more than {MAX_BYTES >> 20} MiB.")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{file} cannot be read: {reason}.") from error


def _read_header(file: Traversable) -> dict[str, Any]:
    try:
        header = json.loads(_read_text(file))
        json.dumps(header, ensure_ascii=False).encode()  # refuses half a surrogate pair
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{file} is not valid JSON: {reason}.") from error
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        raise UsageError(f"{file}: `format` must be {FORMAT}, got {f'{found!r:.80}'}.")
    wanted = [f.name for f in fields(Recording) if f.name not in ("name", "trials", _TRAINED)]
    missing = [key for key in wanted if key not in header]
    if missing:
        raise UsageError(f"{file}: `{missing[0]}` is missing.")
    for key in (*wanted, *({_TRAINED} & header.keys())):
        if not _is_right(key, header[key]):
            raise UsageError(f"{file}: `{key}` cannot be {f'{header[key]!r:.80}'}.")
    return dict(header)


def _is_right(key: str, value: object) -> bool:
    if key == "commands":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key in ("environment", _TRAINED):
        return isinstance(value, dict) and all(
            isinstance(items, list) and all(isinstance(item, str) for item in items)
            for items in value.values()
        )
    return isinstance(value, dict if key == "trainer" else str)


def _require_one_row_each(trials: Iterable[RecordedTrial], label: str) -> None:
    seen = set()
    for trial in trials:
        if (trial.candidate, trial.seed) in seen:
            raise UsageError(f"{label}: {trial.candidate} seed {trial.seed} occurs twice.")
        seen.add((trial.candidate, trial.seed))


_NUMBERS = ("accuracy", "accuracy_std", "num_examples", "num_compositions")
_COLUMNS = (
    *("num_instances", "sparsity", "seed", "training_seed", *_NUMBERS, "sparsity_achieved"),
    *(field.name for field in fields(Throughput)),
    *("phases", "measuring_s"),
    *(field.name for field in fields(Structure)),
    *(field.name for field in fields(Failure)),
    _HYPERPARAMETERS,
)


def _to_csv(trials: Iterable[RecordedTrial]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_to_row, trials))
    return text.getvalue()


def _to_row(trial: RecordedTrial) -> dict[str, object]:
    candidate, measurement = trial.candidate, trial.measurement
    row: dict[str, object] = {
        "num_instances": candidate.num_instances,
        "sparsity": candidate.sparsity,
        "seed": trial.seed,
    }
    if candidate.hyperparameters:
        row[_HYPERPARAMETERS] = json.dumps(dict(candidate.hyperparameters))
    if trial.failure is not None:
        row |= asdict(trial.failure)
    if measurement is not None:
        trained_s = sum(p.duration_s for p in measurement.phases if not p.is_cached)
        row |= {name: getattr(measurement, name) for name in _NUMBERS}
        row |= {"sparsity_achieved": measurement.sparsity, "training_seed": measurement.seed}
        row |= asdict(measurement.throughput) | asdict(measurement.structure)
        row["measuring_s"] = max(0.0, measurement.duration_s - trained_s)
        row["phases"] = tuple(map(_phase_to_text, measurement.phases))
    return {key: _to_cell(value) for key, value in row.items()}


def _phase_to_text(phase: PhaseRecord) -> str:
    """Yield `NAME:UPDATES:SECONDS:MIB`; a trial may have two phases of the same name."""
    return f"{phase.name}:{phase.num_updates}:{phase.duration_s}:{phase.memory_mib}"


def _to_cell(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    return "" if value is None else value


def _parse_row(row: Row, label: str) -> RecordedTrial:
    """Yield the trial of a line; phases count as trained, not as taken from a cache."""
    if None in row or None in row.values():
        raise UsageError(f"{label}: it has not as many fields as the header.")
    try:
        values = json.loads(row.get(_HYPERPARAMETERS) or "{}")
        if not isinstance(values, dict):
            raise ValueError(f"`{_HYPERPARAMETERS}` must be an object, got {f'{values!r:.80}'}")
        cell = check_candidate(_whole(row["num_instances"]), float(row["sparsity"]))
        candidate = replace(cell, hyperparameters=tuple(values.items()))
        seed = _whole(row["seed"])
        if seed < 0:
            raise ValueError(f"`seed` must be 0 or more, got {seed}")
        if row["cause"]:
            failure = _parse(Failure, row)
            return RecordedTrial(candidate=candidate, seed=seed, failure=failure)
        measurement = _parse_measurement(row)
    except KeyError as error:
        raise UsageError(f"{label}: column `{error.args[0]}` is missing.") from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"{label}: {f'{error!s:.200}'}.") from error
    return RecordedTrial(candidate=candidate, seed=seed, measurement=measurement)


def _parse_measurement(row: Row) -> Measurement:
    phases = tuple(map(_parse_phase, row["phases"].split()))
    measurement = Measurement(
        accuracy=_finite(row["accuracy"]),
        accuracy_std=_finite(row["accuracy_std"]),
        num_examples=_whole(row["num_examples"]),
        num_compositions=_whole(row["num_compositions"]),
        correctness=b"",
        throughput=_parse(Throughput, row),
        sparsity=_finite(row["sparsity_achieved"]),
        structure=_parse(Structure, row),
        phases=phases,
        duration_s=_finite(row["measuring_s"]) + sum(phase.duration_s for phase in phases),
        checkpoint="",
        seed=_whole(row["training_seed"]),
    )
    return check_measurement(measurement)


def _parse_phase(text: str) -> PhaseRecord:
    name, num_updates, duration_s, memory_mib = text.split(":")
    return PhaseRecord(
        name=name,
        num_updates=_whole(num_updates),
        duration_s=_finite(duration_s),
        memory_mib=_finite(memory_mib),
        is_cached=False,
    )


def _parse(record: type[_Record], row: Row) -> _Record:
    hints = get_type_hints(record)
    return record(
        **{
            name: _PARSERS[hint](row[name])
            for name, hint in hints.items()
            if name in row or name not in _LATER_COLUMNS
        }
    )


def _finite(cell: str) -> float:
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(f"numbers must be finite, got {cell}")
    return number


def _whole(cell: str) -> int:
    number = int(cell)
    if abs(number) >= 2**63:
        raise ValueError(f"numbers must fit into 64 bits, got {cell[:40]}")
    return number


_PARSERS: Mapping[Any, Callable[[str], object]] = {
    int: _whole,
    float: _finite,
    str: str,
    tuple[int, ...]: lambda cell: tuple(_whole(part) for part in cell.split()),
    float | None: lambda cell: _finite(cell) if cell else None,
    FailureCause: known_cause,
    bool | None: lambda cell: cell == "True" if cell else None,
}
