"""Files of labels: one row for each row of the input, in its order."""

import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from autoprumux.errors import UsageError
from autoprumux.leftovers import whole_file
from trainers.results import Prediction

STDOUT = "-"
"""In place of a path."""
Write = Callable[[Prediction], object]


def label_format(out: str, input_format: str) -> str:
    """Yield the format of the labels: that of the suffix; on stdout that of the input, or TSV.

    Raises:
        UsageError: If the suffix is none of `LABEL_FORMATS`.
    """
    if out == STDOUT:
        return input_format if input_format in LABEL_FORMATS else "tsv"
    word = Path(out).suffix.lower().removeprefix(".")
    if word not in LABEL_FORMATS:
        known = ", ".join(f".{name}" for name in LABEL_FORMATS)
        raise UsageError(f"`--out` must end in one of {known}, got `{out}`.")
    return word


def make_writer(file: IO[str], file_format: str, labels: Sequence[str], *, has_all: bool) -> Write:
    """Write what stands before the first row, and yield what writes a row.

    Args:
        file: Text file.
        file_format: One of `LABEL_FORMATS`.
        labels: Names of the classes.
        has_all: Whether each row gets the probability of every class.
    """
    return LABEL_FORMATS[file_format](file, labels if has_all else ())


@contextmanager
def open_labels(out: str, *, is_held_back: bool = False) -> Iterator[IO[str]]:
    """Open a file that appears under its name only when it is complete, or standard output.

    What killed processes left of theirs beside the file is removed.

    Args:
        out: File, or `-`.
        is_held_back: Whether standard output, too, gets nothing before all is written.

    Raises:
        UsageError: If the file cannot be written.
    """
    if out == STDOUT:
        with _open_stdout(is_held_back) as file:
            yield file
        return
    path = Path(out).resolve()  # a link stays, and its target is replaced
    is_special = path.exists() and not path.is_file()  # a pipe or a device is no file to replace
    place = nullcontext(path) if is_special else whole_file(path)
    try:
        with place as new, new.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise UsageError(f"`{out}` cannot be written: {error.strerror or error}.") from error


@contextmanager
def _open_stdout(is_held_back: bool) -> Iterator[IO[str]]:
    file = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        if not is_held_back:
            yield file
            return
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as held:
            yield held
            held.seek(0)
            shutil.copyfileobj(held, file)
    finally:
        file.detach()  # flushes, and leaves standard output open


def _write_tsv(file: IO[str], labels: Sequence[str]) -> Write:
    file.write("\t".join(map(_on_one_line, _header(labels))) + "\n")

    names: dict[str, str] = {}  # labels as they are written

    def write(prediction: Prediction) -> None:
        row, _, label, probability, probabilities, *_ = prediction
        if label is None or probability is None:
            file.write("\t".join(map(_on_one_line, _cells(prediction, len(labels)))) + "\n")
            return
        if label not in names:
            names[label] = _on_one_line(label)
        each = "".join([f"\t{p:.6f}" for p in probabilities[: len(labels)]])
        file.write(f"{row}\t{names[label]}\t{probability:.6f}{each}\t\n")

    return write


def _write_csv(file: IO[str], labels: Sequence[str]) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_header(labels))
    return lambda prediction: writer.writerow(_cells(prediction, len(labels)))


def _write_jsonl(file: IO[str], labels: Sequence[str]) -> Write:
    def write(prediction: Prediction) -> None:
        label, probability = prediction.label, prediction.probability
        cells: dict[str, object] = {
            "row": prediction.row,
            "label": label,
            "probability": None if probability is None else round(probability, 6),
        }
        if labels:
            rounded = (round(p, 6) for p in prediction.probabilities)
            cells["probabilities"] = (
                None if label is None else dict(zip(labels, rounded, strict=True))
            )
        cells["error"] = prediction.error
        file.write(json.dumps(cells, ensure_ascii=False) + "\n")

    return write


LABEL_FORMATS: dict[str, Callable[[IO[str], Sequence[str]], Write]] = {
    "tsv": _write_tsv,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
"""Writer of each format; the labels are those that get a column of their own."""


def _header(labels: Sequence[str]) -> list[str]:
    return ["row", "label", "probability", *(f"probability_{label}" for label in labels), "error"]


def _cells(prediction: Prediction, num_columns: int) -> list[str]:
    """Yield a row; what a row without a label lacks is empty."""
    if prediction.label is None or prediction.probability is None:
        return [str(prediction.row), "", "", *[""] * num_columns, prediction.error or ""]
    each = [f"{p:.6f}" for p in prediction.probabilities[:num_columns]]
    return [str(prediction.row), prediction.label, f"{prediction.probability:.6f}", *each, ""]


def _on_one_line(cell: str) -> str:
    """Yield a cell without the tabs and line ends that would part it."""
    return cell if cell.isprintable() else " ".join(cell.split())
