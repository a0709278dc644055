"""The files of a trial: a log of its training, the values that its phases reported, its model.

They are attached while the trial is still running, because Optuna never changes an ended one.
"""

import csv
import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from autoprumux.leftovers import scratch_folder
from autoprumux.records import Candidate, Failure, Measurement, TrialRecord
from autoprumux.storage.artifacts import Artifacts
from autoprumux.storage.model_files import MODEL_NAME, pack_model

LOG_NAME, HISTORY_NAME = "log.txt", "history.csv"
MAX_LOG_LINES = 2000
"""The last ones are kept."""

_logger = logging.getLogger(__name__)


class TrialLog:
    """What a training reported, line by line; of a resumed one, only since it was resumed."""

    def __init__(self, number: int, candidate: Candidate) -> None:
        self.number, self.candidate = number, candidate
        self._lines: deque[str] = deque(maxlen=MAX_LOG_LINES)

    def add(self, name: str, value: float, step: int) -> None:
        """Take one report, see `autoprumux.evaluators.base.Report`."""
        if not name.endswith("/step"):  # the other names carry their step
            self._note(f"{name} {value:.6g} at step {step}")

    def retry(self, failure: Failure, remedy: str) -> None:
        """Take that the trial failed and is tried again with something changed."""
        self._note(f"failed ({failure.cause}): {failure.message} Again with {remedy}.")

    def end(self, trial: TrialRecord) -> str:
        """Yield the whole log."""
        if trial.failure is not None:
            self._note(f"failed ({trial.failure.cause}): {trial.failure.message}")
        elif trial.measurement is not None:
            accuracy = 100 * trial.measurement.accuracy
            self._note(f"accuracy {accuracy:.2f} %, {trial.measurement.speedup:.2f}x")
        return "\n".join([f"trial {self.number}: {self.candidate}", *self._lines, ""])

    def _note(self, text: str) -> None:
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC  {text}")


def attach_trial_files(
    artifacts: Artifacts, trial_id: int, trial: TrialRecord, log: TrialLog | None
) -> None:
    """Attach what there is; a failure is logged and costs the search nothing."""
    try:
        with scratch_folder() as folder:
            artifacts.attach_to_trial(trial_id, _write_files(folder, trial, log))
            model = Path(trial.measurement.checkpoint) if trial.measurement else None
            if artifacts.keeps_models and model is not None and (model / "config.json").is_file():
                artifacts.attach_to_trial(trial_id, [pack_model(model, folder / MODEL_NAME)])
    except Exception as error:
        # Whatever is wrong with these copies, the trial's outcome matters more.
        _logger.warning("the files of trial %d are not kept: %s", trial.number, error)


def _write_files(folder: Path, trial: TrialRecord, log: TrialLog | None) -> Sequence[Path]:
    files = []
    if log is not None:
        files.append(folder / LOG_NAME)
        files[-1].write_text(log.end(trial), encoding="utf-8")
    if trial.measurement is not None:
        files.append(folder / HISTORY_NAME)
        _write_history(files[-1], trial.measurement)
    return files


def _write_history(file: Path, measurement: Measurement) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["phase", "step", "name", "value"])
        for phase in measurement.phases:
            for point in phase.history:
                writer.writerow([phase.name, point.step, point.name, f"{point.value:.6g}"])
