"""Rows of a table one after the other, in constant memory; a row that cannot be read says why.

`trainers.data.tables` refuses a whole file for one bad row, as training data must be right. Here
the other rows are still wanted, so each bad one becomes a row of its own with its reason.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from trainers.errors import DataError

STDIN = "-"
"""In place of a path."""
LARGEST_CSV_FIELD = 1 << 24
"""Characters; Python's own limit of 131072 would refuse long documents."""
LARGEST_LINE = 1 << 26
"""Bytes; a longer line is no row, and is passed over without being kept."""
_ROWS_AT_ONCE = 1024  # of a Parquet file


class TextRow(NamedTuple):
    """The texts of one row, or why it has none."""

    line: int
    """Line in the file at which the row starts, counted from 1; for Parquet the row's number."""
    texts: tuple[str, ...]
    """In the order of the columns asked for; empty if the row cannot be read."""
    error: str | None = None
    """What is wrong with the row, in a few words."""


class TextStream:
    """Texts of some columns of a file, in its order; a context manager and an iterator.

    Args:
        file: Binary file, at its start.
        name: Of the file, for messages.
        columns: Names of the columns with texts.
        file_format: One of `FORMATS`.
        size: Bytes of the whole file, if known.

    Raises:
        DataError: If the header cannot be read or lacks a column.
    """

    def __init__(
        self,
        file: IO[bytes],
        name: str,
        columns: Sequence[str],
        file_format: str,
        size: int | None,
    ) -> None:
        self.name, self.columns = name, tuple(columns)
        self.size, self.num_done = size, 0
        self._file = file
        self._rows = FORMATS[file_format](self)

    def __iter__(self) -> Iterator[TextRow]:
        try:
            yield from self._rows
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def __enter__(self) -> "TextStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines with their line feeds; `num_done` counts their bytes.

        Of a line that is too long, one byte more than may be is kept, so that it can be told.
        """
        while line := self._file.readline(LARGEST_LINE + 1):
            self.num_done += len(line)
            if len(line) > LARGEST_LINE:
                self._skip_rest(line)
            yield line

    def _skip_rest(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._file.readline(LARGEST_LINE)
            self.num_done += len(line)

    def places(self, header: Sequence[str]) -> list[int]:
        """Yield where the asked columns stand among all.

        Raises:
            DataError: If one is missing or there twice.
        """
        for column in self.columns:
            if header.count(column) != 1:
                fault = "lacks" if column not in header else "has more than once"
                listed = ", ".join(f"`{name[:40]}`" for name in header[:12])
                raise DataError(
                    f"`{self.name}` {fault} the column `{column}`; it has {listed}. Name the "
                    "columns of the texts with `--columns`."
                )
        return [header.index(column) for column in self.columns]


def open_texts(path: str, columns: Sequence[str], file_format: str | None = None) -> TextStream:
    """Open a TSV, CSV, JSONL or Parquet file, or standard input.

    Args:
        path: File, or `-`.
        columns: Names of the one or two columns with texts, in the order of the model.
        file_format: One of `FORMATS`; None means that of the suffix.

    Raises:
        DataError: If the file cannot be read, its format is unknown, or it lacks a column.
    """
    file_format = format_of(path, file_format)
    if path == STDIN:
        import sys

        if file_format == "parquet":
            raise DataError("Parquet cannot be read from standard input; name a file.")
        return TextStream(sys.stdin.buffer, "standard input", columns, file_format, None)
    try:
        file = Path(path).open("rb")  # noqa: SIM115  the stream closes it
        size = Path(path).stat().st_size if Path(path).is_file() else None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        return TextStream(file, path, columns, file_format, size)
    except OSError as error:
        file.close()
        raise _unreadable(path, error) from error
    except DataError:
        file.close()
        raise


def format_of(path: str, file_format: str | None) -> str:
    """Yield the format to read a file in: the one asked for, or that of its suffix.

    Raises:
        DataError: If there is none of the name.
    """
    word = file_format or ("" if path == STDIN else Path(path).suffix.lower().removeprefix("."))
    if word not in FORMATS:
        shown = f"`{word}`" if file_format else f"`{path}`"
        raise DataError(
            f"The format of {shown} is unknown; choose `--format` from {', '.join(FORMATS)}."
        )
    return word


def _read_tsv(stream: TextStream) -> Iterator[TextRow]:
    """Read tab-separated fields; the double quote is an ordinary character, as in GLUE."""
    lines = stream.lines()
    header = _strip_end(_read_header(stream, lines)).split("\t")
    places = stream.places(header)

    def rows() -> Iterator[TextRow]:
        for number, line in enumerate(lines, start=2):
            if len(line) > LARGEST_LINE:
                yield TextRow(number, (), _TOO_LONG)
                continue
            try:
                fields = _strip_end(line.decode()).split("\t")
            except UnicodeDecodeError as error:
                yield TextRow(number, (), _not_utf8(line[error.start]))
                continue
            if len(fields) == len(header):
                yield TextRow(number, tuple([fields[place] for place in places]))
            else:
                yield TextRow(number, (), _wrong_size(fields, header))

    return rows()


def _read_csv(stream: TextStream) -> Iterator[TextRow]:
    lines = stream.lines()
    first = _read_header(stream, lines)
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CSV_FIELD))

    row_bytes = [0]  # of the row that is being read, which quotes may spread over many lines

    def decoded() -> Iterator[str]:
        yield first
        for line in lines:  # a bad byte must spoil its own row alone, found again below
            row_bytes[0] += len(line)
            if row_bytes[0] > LARGEST_LINE:
                raise DataError(
                    f"`{stream.name}` has a row, ending after line {reader.line_num}, that is "
                    f"{_TOO_LONG}; a quotation mark may be missing."
                )
            yield line.decode(errors="surrogateescape")

    reader = csv.reader(decoded(), strict=True)
    try:
        header = next(reader)
    except csv.Error as error:
        raise DataError(f"The header of `{stream.name}` is not valid CSV: {error}.") from error
    places = stream.places(header)

    def rows() -> Iterator[TextRow]:
        while True:
            start, row_bytes[0] = reader.line_num + 1, 0
            try:
                fields = next(reader) or [""]
            except StopIteration:
                return
            except csv.Error as error:
                end = f", read up to line {reader.line_num}" if reader.line_num > start else ""
                yield TextRow(start, (), f"not valid CSV: {error}{end}")
                continue
            yield _csv_row(start, fields, header, places)

    return rows()


def _csv_row(
    line: int, fields: Sequence[str], header: Sequence[str], places: Sequence[int]
) -> TextRow:
    bad = _find_bad_byte("".join(fields))
    if bad is not None:
        return TextRow(line, (), _not_utf8(bad))
    if len(fields) == len(header):
        return TextRow(line, tuple([fields[place] for place in places]))
    return TextRow(line, (), _wrong_size(fields, header))


def _read_jsonl(stream: TextStream) -> Iterator[TextRow]:
    for number, line in enumerate(stream.lines(), start=1):
        if len(line) > LARGEST_LINE:
            yield TextRow(number, (), _TOO_LONG)
            continue
        try:
            item = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            yield TextRow(number, (), _not_utf8(line[error.start]))
        except (ValueError, RecursionError) as error:
            yield TextRow(number, (), f"not valid JSON: {error}")
        else:
            if isinstance(item, dict):
                yield _check_values(number, stream.columns, [item.get(c) for c in stream.columns])
            else:
                yield TextRow(number, (), f"not a JSON object but {type(item).__name__}")


def _read_parquet(stream: TextStream) -> Iterator[TextRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(stream._file)
    except pa.ArrowException as error:
        raise DataError(f"`{stream.name}` is not a Parquet file: {error}.") from error
    stream.places(table.schema_arrow.names)
    stream.size = table.metadata.num_rows

    def rows() -> Iterator[TextRow]:
        try:
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=list(stream.columns)):
                columns = [batch.column(name).to_pylist() for name in stream.columns]
                for values in zip(*columns, strict=True):
                    stream.num_done += 1
                    yield _check_values(stream.num_done, stream.columns, values)
        except pa.ArrowException as error:
            raise DataError(
                f"`{stream.name}` is damaged after row {stream.num_done}: {error}."
            ) from error

    return rows()


FORMATS: dict[str, Callable[[TextStream], Iterator[TextRow]]] = {
    "tsv": _read_tsv,
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
"""Reader of each format; all but JSONL read the header at once."""


_TOO_LONG = f"longer than {LARGEST_LINE >> 20} MiB"


def _read_header(stream: TextStream, lines: Iterator[bytes]) -> str:
    line = next(lines, b"")
    if len(line) > LARGEST_LINE:
        raise DataError(f"The header of `{stream.name}` is {_TOO_LONG}.")
    if not line.strip():
        raise DataError(f"`{stream.name}` has no header; its first line must name the columns.")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fault = _not_utf8(line[error.start])
        raise DataError(f"The header of `{stream.name}` is {fault}.") from error


def _strip_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _check_values(line: int, columns: Sequence[str], values: Sequence[Any]) -> TextRow:
    for column, value in zip(columns, values, strict=True):
        if value is None:
            return TextRow(line, (), f"no `{column}`")
        if not isinstance(value, str):
            return TextRow(line, (), f"`{column}` must be text, got {value!r:.40}")
    return TextRow(line, tuple(values))


def _find_bad_byte(text: str) -> int | None:
    """Yield the first byte that decoding has kept as half a surrogate pair, if there is one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return ord(text[error.start]) & 0xFF
    return None


def _not_utf8(byte: int) -> str:
    return f"not UTF-8 (byte 0x{byte:02x})"


def _wrong_size(fields: Sequence[str], header: Sequence[str]) -> str:
    return f"{len(fields)} fields, but the header has {len(header)}"


def _unreadable(name: str, error: OSError) -> DataError:
    return DataError(f"`{name}` cannot be read: {error.strerror or error}.")
