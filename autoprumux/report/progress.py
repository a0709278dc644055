"""What a search shows while it runs: a progress bar on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autoprumux.masking import printable
from autoprumux.records import Candidate, Choice, Measurement, TrialRecord
from autoprumux.report.tables import format_choice, format_start, format_trial


class ConsoleListener:
    """Listener of a search that writes to stderr; use it as a context manager.

    On a terminal one bar follows the running phase; elsewhere each phase that has something left
    to do gets one line when it starts. Every finished trial leaves one line in both cases.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bar_task = self._bar.add_task("starting", total=None, note="", visible=False)
        self._trial = ""
        self._reason = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def announce(self, text: str) -> None:
        """Write one line about the search as a whole."""
        self._write(text)

    def trial_started(
        self, number: int, candidate: Candidate, choice: Choice, is_resumed: bool
    ) -> None:
        """Take note of the trial that the next reports are about."""
        self._trial = format_start(number, candidate)
        self._reason = format_choice(choice)
        if is_resumed:
            self._write(f"{self._trial}  taken up again where it stopped")

    def progress(self, name: str, value: float, step: int) -> None:
        """Show one report of the evaluator (`autoprumux.evaluators.base.Report`)."""
        phase, _, what = name.partition("/")
        if what == "total":
            self._start_phase(phase, num_updates=round(value), num_done=step)
        elif what == "step":
            self._bar.update(self._bar_task, completed=value)
        elif what.endswith("accuracy"):
            self._bar.update(self._bar_task, note=f"  {what.replace('_', ' ')} {100 * value:.1f}")

    def trial_finished(self, trial: TrialRecord, baseline: Measurement | None) -> None:
        """Write the line of a finished or failed trial."""
        self._bar.update(self._bar_task, visible=False)
        self._write(format_trial(trial, baseline))

    def _start_phase(self, phase: str, num_updates: int, num_done: int) -> None:
        label = phase.replace("_", " ")
        self._bar.reset(
            self._bar_task,
            description=f"{self._trial}  {label}",
            total=num_updates,
            completed=num_done,
            note=f"  | {self._reason}",
            visible=True,
        )
        if not self._console.is_terminal and num_done < num_updates:
            rest = f" of {num_updates}" if num_done else ""
            self._write(f"{self._trial}  {label}: {num_updates - num_done}{rest} steps")

    def _write(self, text: str) -> None:
        self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
