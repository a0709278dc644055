"""Writes notes, plots and files where optuna-dashboard finds them; what is right stays as is."""

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprumux.dashboard.notes import (
    MOST_NOTES,
    OWN_TEXT_BELOW,
    TRIALS_NAME,
    ended_trials,
    noted_trials,
    study_note,
    trial_notes,
)
from autoprumux.dashboard.stored import (
    PREFIX,
    Attributes,
    Owner,
    note_attributes,
    note_prefix,
    note_text,
    notes_by_owner,
    plot_attributes,
    plot_prefix,
)
from autoprumux.leftovers import scratch_folder
from autoprumux.records import Candidate, Choice, Measurement, StudyRecord, TrialRecord
from autoprumux.storage.artifacts import Artifacts
from autoprumux.storage.database import Database
from autoprumux.storage.repository import Repository
from autoprumux.storage.study_attributes import (
    change_study_attributes,
    read_study_attributes,
    trial_identifiers,
)

if TYPE_CHECKING:
    from autoprumux.search.objective import Listener
    from autoprumux.storage.optuna_storage import ClosingStorage

REPORT_NAME, FRONT_NAME = "report.html", "front.png"

_logger = logging.getLogger(__name__)


class StudyWriter:
    """Writes what optuna-dashboard shows of one study beside Optuna's own tables."""

    def __init__(self, storage: "ClosingStorage", name: str) -> None:
        """Look for Optuna's study.

        Raises:
            KeyError: If Optuna has no study of this name.
        """
        self._storage = storage
        self.study_id = storage.get_study_id_from_name(name)

    def write_notes(self, record: StudyRecord, budgets: Sequence[float], url: str) -> None:
        """Write the notes of the study and of trials; text of the users' own stays.

        Of a study with more than `MOST_NOTES` ended trials only so many have one, and those that
        a user has written in; earlier notes of others are removed.

        Args:
            record: The study with its trials.
            budgets: Those to tell about, fractions.
            url: Database URL without passwords.
        """
        trial_ids = trial_identifiers(self._storage, self.study_id)
        numbers = {trial_id: number for number, trial_id in trial_ids.items()}
        stored = notes_by_owner(self._read(PREFIX))
        kept = {
            numbers[owner]
            for owner, attributes in stored.items()
            if owner in numbers and own_text(note_text(attributes, owner))
        }
        notes = trial_notes(record, budgets, noted_trials(record) | kept)
        texts: dict[Owner, str] = {
            trial_ids[number]: text for number, text in notes.items() if number in trial_ids
        }
        texts[None] = study_note(record, budgets, url)
        changed: dict[str, Any] = {}
        gone = {key for owner in stored.keys() - texts.keys() for key in stored[owner]}
        for owner, text in texts.items():
            new, old = _changes(text, owner, stored.get(owner, {}))
            changed |= new
            gone |= old
        change_study_attributes(self._storage, self.study_id, changed, gone)

    def write_note(self, record: StudyRecord, budgets: Sequence[float], number: int) -> None:
        """Write the note of one ended trial, unless the study has too many for that."""
        if len(ended_trials(record)) > MOST_NOTES:
            return
        owner = self._storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        stored = self._read(note_prefix(owner))
        for text in trial_notes(record, budgets, {number}).values():
            changed, gone = _changes(text, owner, stored)
            change_study_attributes(self._storage, self.study_id, changed, gone)

    def write_plots(self, record: StudyRecord, budgets: Sequence[float]) -> None:
        """Attach front and budget curve, in place of earlier ones."""
        from autoprumux.dashboard.plots import study_plots

        for identifier, figure in study_plots(record, budgets):
            stored = self._read(plot_prefix(identifier))
            new = plot_attributes(identifier, str(figure.to_json()))
            changed = {key: value for key, value in new.items() if stored.get(key) != value}
            gone = stored.keys() - new.keys()
            change_study_attributes(self._storage, self.study_id, changed, gone)

    def write_files(
        self, record: StudyRecord, budgets: Sequence[float], url: str, artifacts: Artifacts
    ) -> None:
        """Attach report, picture of the front and table of trials, in place of earlier ones."""
        with scratch_folder() as folder:
            for file in _study_files(folder, record, budgets, url):
                artifacts.attach_to_study(self.study_id, file)

    def _read(self, prefix: str) -> dict[str, Any]:
        return read_study_attributes(self._storage, self.study_id, prefix)


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
        self._write(lambda writer, record: writer.write_note(record, record.budgets, trial.number))

    def write_all(self) -> None:
        """Bring all notes up to date; the budgets may be others than when they were written."""
        url = self._database.url
        self._write(lambda writer, record: writer.write_notes(record, record.budgets, url))

    def _write(self, write: Callable[[StudyWriter, StudyRecord], None]) -> None:
        if not self._is_on:
            return
        try:
            if self._writer is None:
                self._writer = StudyWriter(self._database.optuna_storage(), self._name)
            record = Repository(self._database).load_study(self._name)
            write(self._writer, record)
        except Exception as error:
            # Whatever is wrong with a note, the search matters more.
            self._is_on = False
            _logger.warning("no further notes for optuna-dashboard are written: %s", error)


def with_own_text(text: str, stored: str) -> str:
    """Yield the note `text` with what users added to the `stored` one."""
    return f"{text}\n\n{OWN_TEXT_BELOW}\n\n{own_text(stored)}".rstrip() + "\n"


def own_text(stored: str) -> str:
    """Yield what users wrote in a stored note."""
    _, mark, below = stored.partition(OWN_TEXT_BELOW)
    own = below if mark else stored  # without the mark, users wrote all of it
    return own.strip()


def _changes(text: str, owner: Owner, stored: Attributes) -> tuple[dict[str, Any], set[str]]:
    """Yield the attributes to set and those to delete so that a note reads `text`."""
    old = note_text(stored, owner)
    note = with_own_text(text, old)
    if note == old:
        return {}, set()
    new = note_attributes(note, owner, stored)
    return new, set(stored) - set(new)


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
        writer.writerows(
            [entry.text for entry in row] for row in trial_rows(record, record.trials)
        )
    return file
