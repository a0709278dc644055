"""One trial: candidate, evaluator, stored measurement or stored failure, and Optuna is told.

Both are written in one transaction where there are no files to attach; else our tables come first,
so they are the truth: a process killed in between leaves a running Optuna trial whose outcome is
stored, and the next run only tells it.
"""

import errno
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import TrialState

from autoprumux.errors import (
    InputError,
    LostProcessError,
    StorageError,
    TrialError,
    UsageError,
)
from autoprumux.evaluators.base import Evaluator, Remediable, Remedy, Report
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
from autoprumux.search.one_setting import require_same_setting
from autoprumux.search.retries import deaths_among, killed_by, remedy_after, remedy_for
from autoprumux.search.told import attributes_of, feasibility_of, trial_seed
from autoprumux.search.trial_files import TrialLog, attach_trial_files
from autoprumux.storage.artifacts import Artifacts
from autoprumux.storage.attempts import Attempt, AttemptBook, Worker
from autoprumux.storage.repository import Repository
from autoprumux.storage.search_storage import SearchStorage
from autoprumux.storage.trials import objectives_of

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
    storage: SearchStorage
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

    def begin(
        self, number: int, proposal: Proposal, *, is_resumed: bool = False
    ) -> Failure | None:
        """Store that a trial starts; yield its failure if too many processes died in it.

        Args:
            number: Number of a running Optuna trial, begun by this worker.
            proposal: Its candidate and why it was chosen.
            is_resumed: True if a killed process had started it.
        """
        seed = trial_seed(self.record.seed, proposal.candidate)
        self.repository.save_start(
            self.record.name, number, proposal.candidate, seed, proposal.choice
        )
        deaths = self._deaths(number) if is_resumed else []
        if len(deaths) >= self.max_attempts:
            return killed_by(deaths)
        remedy = self._remedy_after(deaths)
        self.book.note_training(number, self.worker, remedy="" if remedy is None else remedy.text)
        return None

    def run(
        self,
        number: int,
        proposal: Proposal,
        study: StudyRecord,
        *,
        death: Failure | None = None,
        is_resumed: bool = False,
    ) -> TrialRecord:
        """Evaluate a candidate as trial `number`, store the outcome and tell Optuna.

        Args:
            number: Number of a trial that this worker has begun, see `begin`.
            proposal: Its candidate and why it was chosen.
            study: The study as it is now.
            death: What `begin` yielded.
            is_resumed: True if a killed process had started it.

        Raises:
            InputError: If every trial would fail, or the baseline was measured in another setting;
                the trial stays running, to be taken up later.
            StorageError: If the outcome cannot be stored; likewise.
            LostProcessError: If one of several processes that train it is gone; likewise.
            TrialError: If the disk is full; likewise.
            TrialTakenError: If another worker took it up meanwhile; the outcome is dropped.
            KeyboardInterrupt: If `stop` was set; the trial stays running.
        """
        candidate = proposal.candidate
        self.listener.trial_started(number, candidate, proposal.choice, is_resumed)
        started = time.monotonic()
        log = TrialLog(number, candidate)
        watch = self._watch(study, candidate)
        seed = trial_seed(self.record.seed, candidate)
        outcome = death or self._evaluate_with_remedies(log, seed, watch)
        if isinstance(outcome, Measurement):
            require_same_setting(study, outcome.timing)
        trial = TrialRecord(
            number=number,
            candidate=candidate,
            state="complete" if isinstance(outcome, Measurement) else "failed",
            choice=proposal.choice,
            measurement=outcome if isinstance(outcome, Measurement) else None,
            failure=outcome if isinstance(outcome, Failure) else None,
        )
        return self._finish(trial, study, log, (time.monotonic() - started) / 60)

    def settle(self, number: int) -> TrialRecord:
        """Tell Optuna and the listener the stored outcome of trial `number`."""
        study = self.repository.load_study(self.record.name)
        trial = next(trial for trial in study.trials if trial.number == number)
        self._attach(trial, None)
        with self.storage.together():
            self._tell(trial, study.baseline)
        self.listener.trial_finished(trial, study.baseline)
        return trial

    def _finish(
        self, trial: TrialRecord, study: StudyRecord, log: TrialLog, minutes: float
    ) -> TrialRecord:
        """Store the outcome of a trial and tell it; with files to attach, these in between.

        Optuna never changes a trial that was told, and the outcome matters more than its files.
        """
        baseline = self._baseline(trial, study)
        with self.storage.together():
            if not self.book.is_held(trial.number, self.worker):
                raise TrialTakenError(
                    f"Trial {trial.number} was taken up by another worker while this one was "
                    "silent; what it yielded here is dropped."
                )
            self._save(trial)
            if self.artifacts is None:
                self._tell(trial, baseline, minutes)
        if self.artifacts is not None:
            self._attach(trial, log)
            with self.storage.together():
                self._tell(trial, baseline, minutes)
        self.listener.trial_finished(trial, baseline)
        return trial

    def _baseline(self, trial: TrialRecord, study: StudyRecord) -> Measurement | None:
        """Yield the dense baseline's measurement, if it is there by now."""
        if trial.candidate.is_baseline:
            return trial.measurement
        return study.baseline or self.repository.load_study(self.record.name).baseline

    def _save(self, trial: TrialRecord) -> None:
        if trial.measurement is not None:
            self.repository.save_measurement(self.record.name, trial.number, trial.measurement)
        elif trial.failure is not None:
            self.repository.save_failure(self.record.name, trial.number, trial.failure)

    def _attach(self, trial: TrialRecord, log: TrialLog | None) -> None:
        """Attach the files of a trial, if there is a place for them."""
        if self.artifacts is not None:
            attach_trial_files(self.artifacts, self._trial_id(trial.number), trial, log)

    def _tell(
        self, trial: TrialRecord, baseline: Measurement | None, minutes: float | None = None
    ) -> None:
        """Tell Optuna a stored outcome and end the attempt.

        Args:
            trial: With its outcome.
            baseline: The dense baseline's measurement.
            minutes: What a failed trial took, if known; a measurement has its own duration.
        """
        number, failure = trial.number, trial.failure
        attributes = attributes_of(self.record, trial, baseline, minutes)
        with suppress(UpdateFinishedTrialError):  # somebody told it by other means
            constraints = feasibility_of(self.record, trial, baseline)
            self.storage.set_trial_attrs(self._trial_id(number), attributes, constraints)
            if trial.measurement is None:
                self.optuna_study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            else:
                values = objectives_of(trial.measurement)
                self.optuna_study.tell(number, values, skip_if_finished=True)
        cause = None if failure is None else failure.cause
        message = None if failure is None else failure.message
        self.book.end(number, self.worker, "told", cause=cause, message=message)

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.record.name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _watch(self, study: StudyRecord, candidate: Candidate) -> Watch | None:
        """Yield what stops a trial early; the baseline must be measured for it."""
        if self.num_held_out is None:
            return None
        rule = HopelessRule.from_study(study, self.num_held_out)
        return Watch(rule, candidate) if rule is not None else None

    def _deaths(self, number: int) -> list[Attempt]:
        return deaths_among(self.book.attempts(number))

    def _remedy_after(self, deaths: Sequence[Attempt]) -> Remedy | None:
        return remedy_after(len(deaths)) if isinstance(self.evaluator, Remediable) else None

    def _evaluate_with_remedies(
        self, log: TrialLog, seed: int, watch: Watch | None
    ) -> Measurement | Failure:
        """Evaluate, and again as long as there is a remedy for the cause of the failure."""
        number, candidate = log.number, log.candidate
        evaluator, tried = self.evaluator, Counter[FailureCause]()
        deaths = self._deaths(number)
        before, text = self._remedy_after(deaths), ""
        if before is not None and isinstance(self.evaluator, Remediable):
            evaluator, text = self.evaluator.with_remedy(before), before.text
            self.listener.announce(f"{len(deaths)} processes died in trial {number}; now {text}")
        while True:
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
            remedy = remedy_for(outcome.cause, tried[outcome.cause], before)
            if remedy is None or not isinstance(self.evaluator, Remediable):
                return outcome
            tried[outcome.cause] += 1
            text = remedy.text
            with self.storage.together():
                self.book.retry(
                    number, self.worker, text, cause=outcome.cause, message=outcome.message
                )
                self.book.note_training(number, self.worker)
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


def _comes_from_interrupt(error: BaseException | None) -> bool:
    """Yield whether an error came up while an interruption was on its way."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
