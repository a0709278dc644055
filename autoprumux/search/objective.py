"""One trial: candidate, evaluator, stored measurement or stored failure, and Optuna is told.

Our tables are written first, so they are the truth: a process killed in between leaves a running
Optuna trial whose outcome is stored, and the next run only tells it.
"""

import errno
import hashlib
import json
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from optuna.study import Study
from optuna.trial import TrialState

from autoprumux.errors import (
    InputError,
    LostProcessError,
    StorageError,
    TrialError,
    UsageError,
)
from autoprumux.evaluators.base import Evaluator, Remediable, Report
from autoprumux.records import (
    Candidate,
    Choice,
    Failure,
    FailureCause,
    Measurement,
    StudyRecord,
    TrialRecord,
    known_cause,
)
from autoprumux.search.acquisition import Proposal
from autoprumux.search.claims import TrialTakenError
from autoprumux.search.hopeless import HopelessError, HopelessRule, Watch
from autoprumux.search.retries import remedy_for
from autoprumux.search.trial_files import TrialLog, attach_trial_files
from autoprumux.storage.artifacts import Artifacts
from autoprumux.storage.attempts import AttemptBook, Worker
from autoprumux.storage.optuna_storage import ClosingStorage
from autoprumux.storage.repository import Repository
from autoprumux.storage.trials import CONSTRAINTS, MEETS_BUDGET, constraints_of, objectives_of

MINUTES = "minutes"
"""User attribute of an Optuna trial: the minutes it took; of a failed one, in its last process."""

PAUSES = ("/total", "/step", "/wait")
"""Ends of the names of reports at which a training may be ended without losing an update; the
values of its history are told in the middle of one."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FREE_SPACE = "Free some space; the same command takes the trial up again."

_logger = logging.getLogger(__name__)


class Listener(Protocol):
    """What a search tells while it runs."""

    def announce(self, text: str) -> None:
        """Tell one sentence about the search as a whole."""

    def trial_started(
        self, number: int, candidate: Candidate, choice: Choice, is_resumed: bool
    ) -> None:
        """Tell that a trial begins, or is taken up again."""

    def progress(self, name: str, value: float, step: int) -> None:
        """Pass on a report of the evaluator, see `autoprumux.evaluators.base.Report`."""

    def trial_finished(self, trial: TrialRecord, baseline: Measurement | None) -> None:
        """Tell what a trial yielded."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Runs trials of one study and stores what they yield."""

    optuna_study: Study
    storage: ClosingStorage
    repository: Repository
    evaluator: Evaluator
    listener: Listener
    record: StudyRecord
    """The study without its trials."""
    book: AttemptBook
    worker: Worker
    trial_timeout_s: float = 0.0
    """See `SearchConfig.trial_timeout_s`."""
    max_attempts: int = 3
    """See `SearchConfig.max_attempts`."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set from elsewhere to interrupt the training at its next report."""
    artifacts: Artifacts | None = None
    """Where the files of trials go, if anywhere."""
    num_held_out: int | None = None
    """Examples behind a held-out accuracy; None stops no trial early."""

    def run(self, number: int, proposal: Proposal, *, is_resumed: bool = False) -> TrialRecord:
        """Evaluate a candidate as trial `number`, store the outcome and tell Optuna.

        Args:
            number: Number of a running Optuna trial whose parameters are stored, begun by this
                worker.
            proposal: Its candidate and why it was chosen.
            is_resumed: True if a killed process had begun it.

        Raises:
            InputError: If every trial would fail, or the baseline was measured on another device;
                the trial stays running, to be taken up later.
            StorageError: If the outcome cannot be stored; likewise.
            LostProcessError: If one of several processes that train it is gone; likewise.
            TrialError: If the disk is full; likewise.
            TrialTakenError: If another worker took it up meanwhile; the outcome is dropped.
            KeyboardInterrupt: If `stop` was set; the trial stays running.
        """
        candidate, name = proposal.candidate, self.record.name
        seed = trial_seed(self.record.seed, candidate)
        self.repository.save_start(name, number, candidate, seed, proposal.choice)
        self.listener.trial_started(number, candidate, proposal.choice, is_resumed)
        started = time.monotonic()

        log = TrialLog(number, candidate)
        study = self.repository.load_study(name)
        watch = self._watch(study, candidate)
        outcome = self._death(number) or self._evaluate_with_remedies(log, seed, watch)
        if not self.book.is_held(number, self.worker):
            raise TrialTakenError(
                f"Trial {number} was taken up by another worker while this one was silent; "
                "what it yielded here is dropped."
            )
        if isinstance(outcome, Measurement):
            _require_same_device(outcome, study.baseline)
            self.repository.save_measurement(name, number, outcome)
        else:
            self.repository.save_failure(name, number, outcome)

        return self.settle(number, minutes=(time.monotonic() - started) / 60, log=log)

    def settle(
        self, number: int, *, minutes: float | None = None, log: TrialLog | None = None
    ) -> TrialRecord:
        """Tell Optuna and the listener the stored outcome of trial `number`.

        Args:
            number: Number of a trial with a stored measurement or failure.
            minutes: What a failed trial took, if known; a measurement has its own duration.
            log: What its training reported, if it ended in this process.
        """
        study = self.repository.load_study(self.record.name)
        trial = next(trial for trial in study.trials if trial.number == number)
        attributes = self._attributes(trial, study.baseline, minutes)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self._study_id(), number)
        self.storage.set_trial_attrs(
            trial_id, attributes, self._constraints(trial, study.baseline)
        )
        if self.artifacts is not None:
            attach_trial_files(self.artifacts, trial_id, trial, log)

        if trial.measurement is None:
            self.optuna_study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            values = objectives_of(trial.measurement)
            self.optuna_study.tell(number, values, skip_if_finished=True)

        cause = None if trial.failure is None else trial.failure.cause
        message = None if trial.failure is None else trial.failure.message
        self.book.end(number, self.worker, "told", cause=cause, message=message)
        self.listener.trial_finished(trial, study.baseline)
        return trial

    def _study_id(self) -> int:
        return self.storage.get_study_id_from_name(self.record.name)

    def _watch(self, study: StudyRecord, candidate: Candidate) -> Watch | None:
        """Yield what stops a trial early; the baseline must be measured for it."""
        if self.num_held_out is None:
            return None
        rule = HopelessRule.from_study(study, self.num_held_out)
        return Watch(rule, candidate) if rule is not None else None

    def _death(self, number: int) -> Failure | None:
        """Yield the failure of a trial in which too many processes died."""
        attempts = self.book.attempts(number)
        deaths = [a for a in attempts if a.is_trained and a.outcome == "lost"]
        if len(deaths) < self.max_attempts:
            return None
        message = (
            f"{len(deaths)} processes died while they trained it, the last of them "
            f"{deaths[-1].worker}; the machine may be short of memory."
        )
        return Failure(cause="killed", message=message)

    def _evaluate_with_remedies(
        self, log: TrialLog, seed: int, watch: Watch | None
    ) -> Measurement | Failure:
        """Evaluate, and again as long as there is a remedy for the cause of the failure."""
        number, candidate = log.number, log.candidate
        evaluator, tried = self.evaluator, Counter[FailureCause]()
        text = ""
        while True:
            self.book.note_training(number, self.worker)
            try:
                outcome = self._evaluate(evaluator, seed, log, watch)
            except InputError as error:
                outcome = self._input_failure(number, candidate, error)
            except TrialError as error:  # the disk is full
                self.book.end(
                    number, self.worker, "given_back", cause=error.cause, message=str(error)
                )
                raise
            if isinstance(outcome, Measurement):
                environment = {**outcome.environment, "remedy": text}
                return replace(outcome, environment=environment) if text else outcome
            remedy = remedy_for(outcome.cause, tried[outcome.cause])
            if remedy is None or not isinstance(self.evaluator, Remediable):
                return outcome
            tried[outcome.cause] += 1
            text = remedy.text
            self.book.retry(
                number, self.worker, text, cause=outcome.cause, message=outcome.message
            )
            log.retry(outcome, text)
            self.listener.announce(f"trial {number} failed ({outcome.cause}); again with {text}")
            evaluator = self.evaluator.with_remedy(remedy)

    def _input_failure(self, number: int, candidate: Candidate, error: InputError) -> Failure:
        """Give the trial back and raise `error`; yield it as a failure the last time.

        A file that only this trial reads would otherwise stop every search that takes it up.
        """
        before = self.book.attempts(number)
        num_failed = 1 + sum(attempt.cause == "data_error" for attempt in before)
        if num_failed >= self.max_attempts and not candidate.is_baseline:
            return Failure(cause="data_error", message=str(error))
        self.book.end(number, self.worker, "given_back", cause="data_error", message=str(error))
        raise error

    def _evaluate(
        self, evaluator: Evaluator, seed: int, log: TrialLog, watch: Watch | None
    ) -> Measurement | Failure:
        last_accuracy: float | None = None
        started = time.monotonic()

        def report(name: str, value: float, step: int) -> None:
            nonlocal last_accuracy
            if name.endswith("/held_out_accuracy") and math.isfinite(value):
                last_accuracy = value
            log.add(name, value, step)
            self.listener.progress(name, value, step)
            if watch is not None:
                watch.see(name, value, step)
            if name.endswith(PAUSES):
                self._check_time(time.monotonic() - started)

        outcome = self._outcome_of(evaluator, log.candidate, seed, report)
        if isinstance(outcome, Failure):
            return replace(outcome, last_accuracy=last_accuracy)
        return outcome

    def _check_time(self, elapsed_s: float) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt
        if 0 < self.trial_timeout_s < elapsed_s:
            raise TrialError(
                f"The trial took longer than {self.trial_timeout_s:g} s; raise "
                "`search.trial_timeout_s`.",
                cause="timed_out",
            )

    def _outcome_of(
        self, evaluator: Evaluator, candidate: Candidate, seed: int, report: Report
    ) -> Measurement | Failure:
        try:
            measurement = self._uninterrupted(evaluator, candidate, seed, report)
        except (InputError, LostProcessError, UsageError, StorageError):
            raise
        except TrialError as error:
            if error.cause == "disk_full":  # every other trial would meet it too
                raise TrialError(f"{error} {_FREE_SPACE}", cause=error.cause) from error
            return Failure(
                cause=known_cause(error.cause),
                message=str(error),
                reachable_accuracy=error.reachable if isinstance(error, HopelessError) else None,
            )
        except MemoryError:
            return Failure(cause="out_of_memory", message="The machine ran out of memory.")
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise TrialError(f"{error}. {_FREE_SPACE}", cause="disk_full") from error
            # The one place that catches everything: hours of search must survive one broken trial.
            _logger.debug("%s failed", candidate, exc_info=True)
            return Failure(cause="error", message=f"{type(error).__name__}: {error}")
        if not math.isfinite(measurement.accuracy) or not 0 < measurement.speedup < math.inf:
            message = (
                f"Accuracy {measurement.accuracy} or speed-up {measurement.speedup} is no number."
            )
            return Failure(cause="nan", message=message)
        return measurement

    def _uninterrupted(
        self, evaluator: Evaluator, candidate: Candidate, seed: int, report: Report
    ) -> Measurement:
        """Evaluate; whatever a library made of an interruption is one again.

        Raises:
            KeyboardInterrupt: If an error came up that a signal may have caused.
        """
        try:
            return evaluator.evaluate(candidate, seed, report)
        except Exception as error:
            if self.stop.is_set() or _comes_from_interrupt(error):
                raise KeyboardInterrupt from error
            raise

    def _constraints(
        self, trial: TrialRecord, baseline: Measurement | None
    ) -> Mapping[str, object]:
        """Yield by how much a trial exceeds the loosest budget, as optuna-dashboard reads it."""
        if trial.measurement is None or baseline is None:
            return {}
        loss = baseline.accuracy - trial.measurement.accuracy
        return {CONSTRAINTS: constraints_of(loss, self.record.budgets)}

    def _attributes(
        self, trial: TrialRecord, baseline: Measurement | None, minutes: float | None
    ) -> Mapping[str, object]:
        """Yield the columns that optuna-dashboard shows for a trial."""
        attributes: dict[str, object] = {"seed": trial_seed(self.record.seed, trial.candidate)}
        if self.record.data_fingerprint.startswith("builtin:"):
            attributes["data"] = "built-in"
        if trial.failure is not None:
            attributes |= {"failure": trial.failure.cause, "message": trial.failure.message[:500]}
            if minutes is not None:
                attributes[MINUTES] = round(minutes, 3)
        if trial.measurement is not None:
            attributes |= {
                "sparsity_achieved": round(trial.measurement.sparsity, 4),
                "throughput": round(trial.measurement.throughput.throughput, 2),
                MINUTES: round(trial.measurement.duration_s / 60, 3),
            }
            if baseline is not None:
                loss = baseline.accuracy - trial.measurement.accuracy
                attributes["accuracy_loss_points"] = round(100 * loss, 3)
                attributes[MEETS_BUDGET] = constraints_of(loss, self.record.budgets)[0] <= 0
        return attributes


def _require_same_device(measurement: Measurement, baseline: Measurement | None) -> None:
    """Refuse to mix devices: a speed-up says nothing beside one of another device."""
    here = measurement.throughput.device
    if baseline is not None and here != baseline.throughput.device:
        raise InputError(
            f"The study's dense baseline was measured on `{baseline.throughput.device}`, this "
            f"machine measures on `{here}`, and speed-ups of two devices cannot be compared. "
            "Search on the same device (`--device`), or in another database (`--storage`).",
            cause="device",
        )


def _comes_from_interrupt(error: BaseException | None) -> bool:
    """Yield whether an error came up while an interruption was on its way."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def trial_seed(study_seed: int, candidate: Candidate) -> int:
    """Yield the seed of a candidate's training, the same whenever its turn comes (31 bits)."""
    text = f"{study_seed}/{candidate.num_instances}/{candidate.sparsity:.4f}"
    if candidate.hyperparameters:
        text += f"/{json.dumps(dict(candidate.hyperparameters))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
