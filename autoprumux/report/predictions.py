"""What `autoprumux predict` tells beside the labels: progress, faulty rows, speed."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from autoprumux.report.tables import format_duration
from trainers.results import Prediction

NUM_LISTED = 20
"""Rows of a kind that are named by their line; the others are counted."""
_ROWS_PER_UPDATE = 256


@dataclass
class RowFaults:
    """Rows of one kind: how many, and the first of them."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    """Line, and what is wrong."""

    def add(self, prediction: Prediction) -> None:
        """Count one row."""
        self.count += 1
        if len(self.first) < NUM_LISTED:
            self.first.append((prediction.line, prediction.error or ""))

    @property
    def lines(self) -> str:
        """The first lines in words."""
        listed = ", ".join(str(line) for line, _ in self.first)
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"{'line' if self.count == 1 else 'lines'} {listed}{more}"


@dataclass(kw_only=True)
class PredictionSummary:
    """What became of the rows; grows while they are labelled."""

    num_instances: int
    """N."""
    max_length: int
    """Tokens at which rows were cut."""
    is_length_guessed: bool
    """Whether that is only the longest that the model takes, for want of a word about it."""
    backend: str
    device: str
    num_rows: int = 0
    unlabelled: RowFaults = field(default_factory=RowFaults)
    """Rows that could not be read or labelled."""
    empty: RowFaults = field(default_factory=RowFaults)
    """Rows that were labelled although a text is empty."""
    cut: RowFaults = field(default_factory=RowFaults)
    """Rows that were labelled by their beginning."""
    duration_s: float = 0.0
    """Seconds of reading, tokenising, labelling and writing; loading the model is before it."""
    padding_share: float = 0.0
    """Share of the model's input that was padding or filled up a group."""

    @property
    def num_labelled(self) -> int:
        """Rows with a label."""
        return self.num_rows - self.unlabelled.count

    @property
    def throughput(self) -> float:
        """Labelled rows per second."""
        return self.num_labelled / self.duration_s if self.duration_s else 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one row."""
        self.num_rows += 1
        if prediction.error is not None:
            self.unlabelled.add(prediction)
        if prediction.is_empty:
            self.empty.add(prediction)
        if prediction.is_cut:
            self.cut.add(prediction)


def format_warnings(summary: PredictionSummary) -> list[str]:
    """Yield the lines about rows that need a look; none if all were in order."""
    found = [f"line {line}: {reason}" for line, reason in summary.unlabelled.first]
    unlabelled, empty, cut = summary.unlabelled, summary.empty, summary.cut
    if summary.is_length_guessed:
        found.append(
            "The model directory does not tell the length of its training: rows were cut at "
            f"{summary.max_length} tokens, the longest that the model takes; see `--max-length`."
        )
    if unlabelled.count:
        more = unlabelled.count - len(unlabelled.first)
        others = f" ({more} more than listed)" if more else ""
        found.append(f"{_count(unlabelled.count, 'row')} without a label{others}")
    if empty.count:
        found.append(f"{_count(empty.count, 'row')} labelled with an empty text: {empty.lines}")
    if cut.count:
        found.append(
            f"{_count(cut.count, 'row')} longer than {summary.max_length} tokens, labelled by the "
            f"beginning: {cut.lines}"
        )
    return found


def format_summary(summary: PredictionSummary) -> str:
    """Yield the one line about all rows."""
    seconds = summary.duration_s
    duration = f"{seconds:.1f}s" if seconds < 10 else format_duration(seconds)
    return (
        f"{summary.num_labelled} of {_count(summary.num_rows, 'row')} labelled in "
        f"{duration}, {summary.throughput:.0f} seq/s "
        f"(N={summary.num_instances}, {summary.backend}, {summary.device}; "
        f"{100 * summary.padding_share:.0f} % padding)"
    )


def summary_to_dict(summary: PredictionSummary) -> dict[str, Any]:
    """Yield the summary for JSON."""
    kinds = {"unlabelled": summary.unlabelled, "empty": summary.empty, "cut": summary.cut}
    return {
        "num_rows": summary.num_rows,
        "num_labelled": summary.num_labelled,
        **{f"num_{name}": kind.count for name, kind in kinds.items()},
        **{f"{name}_lines": [line for line, _ in kind.first] for name, kind in kinds.items()},
        "duration_s": summary.duration_s,
        "throughput": summary.throughput,
        "padding_share": summary.padding_share,
        "num_instances": summary.num_instances,
        "max_length": summary.max_length,
        "backend": summary.backend,
        "device": summary.device,
    }


def with_progress(
    predictions: Iterable[Prediction], num_done: Callable[[], tuple[int, int | None]]
) -> Iterator[Prediction]:
    """Yield the predictions, with a bar on stderr if it is a terminal.

    Args:
        predictions: In any number.
        num_done: Tells how much of the input is read, and how much there is, if known.
    """
    console = Console(file=sys.stderr, highlight=False)
    bar = Progress(
        TextColumn("labelling"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]} rows", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None, rows=0)
        for prediction in predictions:
            yield prediction
            if prediction.row % _ROWS_PER_UPDATE == 0:
                done, total = num_done()
                bar.update(task, completed=done, total=total, rows=prediction.row)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
