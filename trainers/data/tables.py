"""Strict reading of one table from TSV, CSV, JSONL or Parquet; no row is dropped or mended."""

import csv
import io
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.errors import DataError

MAX_BYTES, MAX_LINE_BYTES = 4 << 30, 16 << 20
"""Of a file, all of which must fit in memory, and of one of its lines."""
MAX_COLUMNS = 1000
MAX_CELLS = 200_000_000
"""Rows times columns of JSONL and Parquet, which can spell many in few bytes."""


@dataclass(frozen=True)
class Table:
    """Rows of a file with the places they came from."""

    path: Path
    """The file, for messages."""
    columns: tuple[str, ...]
    """Column names in the order of the file."""
    rows: Sequence[Sequence[Any]]
    """One sequence for each row, in the order of `columns`; None where a value is missing."""
    lines: Sequence[int]
    """Line in the file at which each row starts, counted from 1; for Parquet the row's number."""


def read_table(path: Path) -> Table:
    """Yield the table in `path`, by its suffix.

    Raises:
        DataError: If the file cannot be read, is empty, or a row is malformed.
    """
    try:
        _require_sizes(path)
        table = READERS[path.suffix](path)
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    if not table.rows:
        raise DataError(f"`{path}` holds no examples.")
    return table


def _read_tsv(path: Path) -> Table:
    """Read tab-separated fields; the double quote is an ordinary character, as in GLUE."""
    header, *lines = _split_lines(_read_text(path))
    rows = [line.split("\t") for line in lines]
    return _make_table(path, header.split("\t"), rows, range(2, len(rows) + 2))


def _read_csv(path: Path) -> Table:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    csv.field_size_limit(MAX_LINE_BYTES)
    try:
        for row in reader:
            rows.append(row)
            lines.append(start)
            start = reader.line_num + 1  # a quoted field may span lines
    except csv.Error as error:
        raise DataError(f"Line {start} of `{path}` is not valid CSV: {error}.") from error
    return _make_table(path, rows[0], rows[1:], lines[1:])


def _read_jsonl(path: Path) -> Table:
    objects = [
        _parse_object(path, line, number)
        for number, line in enumerate(_split_lines(_read_text(path)), start=1)
    ]
    columns = tuple(objects[0])
    _require_few(path, len(columns), len(objects))
    rows = [[item.get(column) for column in columns] for item in objects]
    return Table(path, columns, rows, range(1, len(rows) + 1))


def _read_parquet(path: Path) -> Table:
    import pandas as pd
    import pyarrow.parquet as pq

    try:
        described = pq.read_metadata(path)
        _require_few(path, described.num_columns, described.num_rows)
        frame = pd.read_parquet(path, dtype_backend="pyarrow")
    except ValueError as error:  # pyarrow's errors about the content derive from it
        raise DataError(f"`{path}` is not a Parquet file: {error}.") from error
    columns = [frame[name].astype(object).where(frame[name].notna(), None) for name in frame]
    rows = list(zip(*columns, strict=True))
    return Table(path, tuple(map(str, frame)), rows, range(1, len(rows) + 1))


READERS: dict[str, Callable[[Path], Table]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""Reader of each file format by suffix."""


def _require_sizes(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"`{path}` cannot be read: it is a pipe or a device.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(
            f"`{path}` has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} GiB can be read, as "
            "all of it is kept in memory."
        )
    if path.suffix == ".parquet":
        return
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DataError(
                    f"Line {number} of `{path}` has more than {MAX_LINE_BYTES >> 20} MiB."
                )


def _require_few(path: Path, num_columns: int, num_rows: int) -> None:
    if num_columns > MAX_COLUMNS:
        raise DataError(f"`{path}` has {num_columns} columns; at most {MAX_COLUMNS} can be read.")
    if num_columns * num_rows > MAX_CELLS:
        raise DataError(
            f"`{path}` has {num_rows} rows of {num_columns} columns, more than can be kept in "
            "memory."
        )


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    if not content.removeprefix(BOM_UTF8).strip():
        raise DataError(f"`{path}` is empty.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"Line {line} of `{path}` is not UTF-8 (byte 0x{content[error.start]:02x}). "
            "Save the file as UTF-8."
        ) from error


def _split_lines(text: str) -> list[str]:
    """Split at line feeds alone; `str.splitlines` also splits at characters that texts contain."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _make_table(
    path: Path, columns: list[str], rows: list[list[str]], lines: Sequence[int]
) -> Table:
    _require_few(path, len(columns), len(rows))
    for column in columns:
        if columns.count(column) > 1:
            raise DataError(f"The header of `{path}` names the column `{column}` twice.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(columns):
            raise DataError(
                f"Line {line} of `{path}` has {len(row)} fields, "
                f"but the header has {len(columns)}."
            )
    return Table(path, tuple(columns), rows, lines)


def _parse_object(path: Path, line: str, number: int) -> dict[str, Any]:
    try:
        item = json.loads(line)
        json.dumps(item, ensure_ascii=False).encode()  # refuses half a surrogate pair
    except ValueError as error:
        raise DataError(f"Line {number} of `{path}` is not valid JSON: {error}.") from error
    except RecursionError:
        raise DataError(f"Line {number} of `{path}` is nested too deeply.") from None
    if not isinstance(item, dict):
        raise DataError(f"Line {number} of `{path}` must be a JSON object, got {line[:40]!r}.")
    return item
