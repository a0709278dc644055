"""Writes notes, plots and files where optuna-dashboard finds them; what is right stays as is."""

import csv
import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.dashboard.notes import OWN_TEXT_BELOW, study_note, trial_notes
from autoprumux.records import Candidate, Choice, Measurement, StudyRecord, TrialRecord
from autoprumux.storage.artifacts import Artifacts
from autoprumux.storage.database import Database
from autoprumux.storage.leftovers import scratch_folder
from autoprumux.storage.repository import Repository

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

    from autoprumux.search.objective import Listener

REPORT_NAME, FRONT_NAME, TRIALS_NAME = "report.html", "front.png", "trials.csv"

_logger = logging.getLogger(__name__)


class StudyWriter:
    """Writes what optuna-dashboard shows of one study beside Optuna's own tables."""

    def __init__(self, storage: "BaseStorage", name: str) -> None:
        """Open Optuna's study.

        Raises:
            KeyError: If Optuna has no study of this name.
        """
        import optuna

        self._storage = storage
        # A study of its own: the search's sampler takes each look at a trial for work on it.
        self._study = optuna.load_study(study_name=name, storage=storage)
        self.study_id = storage.get_study_id_from_name(name)

    def write_notes(
        self, record: StudyRecord, budgets: Sequence[float], url: str, *, only: int | None = None
    ) -> None:
        """Write the notes of the study and of its ended trials; text of the users' own stays.

        Args:
            record: The study with its trials.
            budgets: Those to tell about, fractions.
            url: Database URL without passwords.
            only: Number of the one trial to write about; None writes them all, and the study's.
        """
        import optuna

        for number, text in trial_notes(record, budgets).items():
            if only in (None, number):
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(
                    self.study_id, number
                )
                self._write(optuna.Trial(self._study, trial_id), text)
        if only is None:
            self._write(self._study, study_note(record, budgets, url))

    def write_plots(self, record: StudyRecord, budgets: Sequence[float]) -> None:
        """Attach front and budget curve, in place of earlier ones."""
        from optuna_dashboard import save_plotly_graph_object

        from autoprumux.dashboard.plots import study_plots

        for identifier, figure in study_plots(record, budgets):
            save_plotly_graph_object(self._study, figure, graph_object_id=identifier)

    def write_files(
        self, record: StudyRecord, budgets: Sequence[float], url: str, artifacts: Artifacts
    ) -> None:
        """Attach report, picture of the front and table of trials, in place of earlier ones."""
        with scratch_folder() as folder:
            for file in _study_files(folder, record, budgets, url):
                artifacts.attach_to_study(self.study_id, file)

    def _write(self, owner: "optuna.Study | optuna.Trial", text: str) -> None:
        from optuna_dashboard import get_note, save_note

        stored = get_note(owner)
        note = with_own_text(text, stored)
        if note != stored:
            save_note(owner, note)


class NoteWriter:
    """A listener that also writes the notes of a running search, if optuna-dashboard is there.

    A failure is logged once and costs the search nothing.
    """

    def __init__(self, listener: "Listener", database: Database, name: str) -> None:
        self._listener, self._database, self._name = listener, database, name
        self._is_on = find_spec("optuna_dashboard") is not None
        self._writer: StudyWriter | None = None

    def announce(self, text: str) -> None:
        """See `Listener.announce`."""
        self._listener.announce(text)

    def trial_started(
        self, number: int, candidate: Candidate, choice: Choice, is_resumed: bool
    ) -> None:
        """See `Listener.trial_started`."""
        self._listener.trial_started(number, candidate, choice, is_resumed)

    def progress(self, name: str, value: float, step: int) -> None:
        """See `Listener.progress`."""
        self._listener.progress(name, value, step)

    def trial_finished(self, trial: TrialRecord, baseline: Measurement | None) -> None:
        """Pass it on and write the trial's note."""
        self._listener.trial_finished(trial, baseline)
        self._write(only=trial.number)

    def write_all(self) -> None:
        """Bring all notes up to date; the budgets may be others than when they were written."""
        self._write(only=None)

    def _write(self, *, only: int | None) -> None:
        if not self._is_on:
            return
        try:
            if self._writer is None:
                self._writer = StudyWriter(self._database.optuna_storage(), self._name)
            record = Repository(self._database).load_study(self._name)
            self._writer.write_notes(record, record.budgets, self._database.url, only=only)
        except Exception as error:
            # Whatever is wrong with a note, the search matters more.
            self._is_on = False
            _logger.warning("no further notes for optuna-dashboard are written: %s", error)


def with_own_text(text: str, stored: str) -> str:
    """Yield the note `text` with what users added to the `stored` one."""
    _, mark, below = stored.partition(OWN_TEXT_BELOW)
    own = below if mark else stored  # without the mark, users wrote all of it
    return f"{text}\n\n{OWN_TEXT_BELOW}\n\n{own.strip()}".rstrip() + "\n"


def _study_files(
    folder: Path, record: StudyRecord, budgets: Sequence[float], url: str
) -> Iterator[Path]:
    from autoprumux.report.page.write import write_report

    page, picture = folder / REPORT_NAME, folder / FRONT_NAME
    write_report(record, budgets, url, out=page, png=picture if record.measured else None)
    yield page
    if record.measured:
        yield picture
    yield _write_trials(folder / TRIALS_NAME, record)


def _write_trials(file: Path, record: StudyRecord) -> Path:
    from autoprumux.report.page.trials import columns, trial_rows

    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([column.name for column in columns(record)])
        writer.writerows([entry.text for entry in row] for row in trial_rows(record))
    return file
