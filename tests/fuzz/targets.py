"""What is fuzzed: each target takes bytes and may end only as it would for a user.

That is with a result or with an error of ours, which the command line prints in a sentence. Any
other exception, and more than `LIMIT_S` seconds for one input, is a defect.
"""

import io
import json
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from autoprumux.answers import answer_budgets
from autoprumux.config import parse_budgets
from autoprumux.errors import AutoPrumuxError
from autoprumux.evaluators.recorded import RecordedEvaluator
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.masking import fit_for_print
from autoprumux.storage.reading import Wanted, read_calibrations, read_profiles, read_study
from autoprumux.study_files import Override, load_study, load_task, parse_setting, stored_study
from trainers.data.glue import read_directory as read_data
from trainers.data.streams import TextStream
from trainers.data.tables import read_table
from trainers.data.tasks import TASKS
from trainers.errors import TrainerError

LIMIT_S = 20
"""Seconds for one input, on a busy machine."""
LONGEST_SENTENCE = 20_000
"""Characters; a message that repeats its input whole is no sentence."""
GOLDEN = Path(__file__).parents[1] / "golden" / "schema-6.sql"
RECORDED = Path(__file__).parents[2] / "studies" / "recorded"


class TooSlowError(Exception):
    """An input took more than `LIMIT_S`."""


@cache
def folder() -> Path:
    """Yield a folder for the files of this process."""
    return Path(tempfile.mkdtemp(prefix="autoprumux-fuzz-"))


def run(target: str, content: bytes) -> bool:
    """Run one input; yield whether it was taken, as against refused in a sentence."""
    with _limit():
        try:
            TARGETS[target](content)
        except (AutoPrumuxError, TrainerError) as error:
            text = fit_for_print(str(error))
            assert text.strip(), "an error without a sentence"
            assert len(text) < LONGEST_SENTENCE, f"{len(text)} characters of message"
            return False
    return True


@contextmanager
def _limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlowError(f"more than {LIMIT_S} s for one input")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _write(name: str, content: bytes) -> Path:
    path = folder() / name
    path.write_bytes(content)
    return path


def _study_file(content: bytes) -> None:
    load_study(str(_write("study.toml", content)))


def _task_file(content: bytes) -> None:
    load_task(str(_write("task.toml", content)))


def _setting(content: bytes) -> None:
    load_study(_empty_study(), [parse_setting(_text(content))])


def _budgets(content: bytes) -> None:
    parse_budgets(_text(content))


def _grid(content: bytes) -> None:
    from autoprumux.cli.options import split_list

    widths, _, sparsities = _text(content).partition("|")
    overrides = [
        Override("search.widths", split_list(widths, int), "--widths"),
        Override("search.sparsities", split_list(sparsities, float), "--sparsities"),
    ]
    load_study(_empty_study(), overrides)


@cache
def _empty_study() -> str:
    return str(_write("empty.toml", b""))


def _table(suffix: str) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        read_table(_write(f"table{suffix}", content))

    return read


def _data(content: bytes) -> None:
    place = folder() / "data"
    place.mkdir(exist_ok=True)
    (place / "train.tsv").write_bytes(content)
    (place / "dev.tsv").write_bytes(content)
    read_data(place, TASKS["sst2"])


def _stream(file_format: str) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        file = io.BytesIO(content)
        rows = list(TextStream(file, "table", ("sentence",), file_format, len(content)))
        for row in rows:
            assert row.error or len(row.texts) == 1
            fit_for_print(f"{row.error}").encode()

    return read


def _model_config(content: bytes) -> None:
    from trainers.models.checkpoints import read_usage
    from trainers.serving.directories import read_directory

    place = _write("config.json", content).parent
    read_directory(place)
    read_usage(place)


def _safetensors(content: bytes) -> None:
    """The header and the weights, parted by two null bytes; the length goes before them."""
    from trainers.models.checkpoints import read_tensors

    header, _, weights = content.partition(b"\0\0")
    framed = len(header).to_bytes(8, "little") + header + weights
    read_tensors(_write("framed.safetensors", framed))


def _safetensors_file(content: bytes) -> None:
    from trainers.models.checkpoints import read_tensors

    read_tensors(_write("raw.safetensors", content))


def _recording_rows(content: bytes) -> None:
    _load_recording(content, _shipped()[1])


def _recording_header(content: bytes) -> None:
    _load_recording(_shipped()[0], content)


def _load_recording(rows: bytes, header: bytes) -> None:
    path = _write("recording.csv", rows)
    _write("recording.json", header)
    recording = load_recording(str(path))
    for seed in recording.seeds[:2]:
        recording.as_study(seed)
    RecordedEvaluator(recording).check()


@cache
def _shipped() -> tuple[bytes, bytes]:
    rows, header = (RECORDED / f"sst2-builtin-builtin.{kind}" for kind in ("csv", "json"))
    return b"".join(rows.read_bytes().splitlines(keepends=True)[:8]), header.read_bytes()


def _database(content: bytes) -> None:
    """Change values of a stored study: `TABLE.COLUMN=JSON` on each line of the input."""
    tables = stored_tables()
    changed = {name: [dict(row) for row in rows] for name, rows in tables.items()}
    for line in _text(content).splitlines()[:20]:
        place, _, value = line.partition("=")
        table, _, column = place.partition(".")
        for row in changed.get(table, [])[:2]:
            if column in row:
                row[column] = _value(value)

    def rows(table: str, /, **where: Wanted) -> Sequence[Mapping[str, Any]]:
        wanted = {k: (v,) if isinstance(v, int | str) else v for k, v in where.items()}
        return [r for r in changed[table] if all(r[key] in of for key, of in wanted.items())]

    study = read_study(rows, "the database", None, None)
    read_profiles(rows)
    read_calibrations(rows, "none")
    stored_study(study)
    if len(content) % 16 == 0:  # costs far more than all the rest
        answer_budgets(study, study.budgets)


def _value(text: str) -> object:
    """Yield what a driver may yield: JSON stands for itself, anything else is text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, list | dict | bool) else value


@cache
def stored_tables() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Yield the rows of the golden database by table."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    connection.executescript(GOLDEN.read_text(encoding="utf-8"))
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {
        row["name"]: [dict(r) for r in connection.execute(f"SELECT * FROM {row['name']}")]
        for row in names
        if row["name"].startswith("prumux_")
    }
    connection.close()
    return tables


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "study_file": _study_file,
    "task_file": _task_file,
    "setting": _setting,
    "budgets": _budgets,
    "grid": _grid,
    "tsv": _table(".tsv"),
    "csv": _table(".csv"),
    "jsonl": _table(".jsonl"),
    "data": _data,
    "tsv_stream": _stream("tsv"),
    "csv_stream": _stream("csv"),
    "jsonl_stream": _stream("jsonl"),
    "model_config": _model_config,
    "safetensors": _safetensors,
    "safetensors_file": _safetensors_file,
    "recording_rows": _recording_rows,
    "recording_header": _recording_header,
    "database": _database,
}
"""By name; none of them trains or builds a model."""
