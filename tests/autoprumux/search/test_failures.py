"""Causes of failures, what is tried again, and searches in which everything fails."""

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import text

from autoprumux.config import StudyConfig
from autoprumux.errors import InputError, NoBaselineError, TrialError
from autoprumux.evaluators.base import Remedy, Report
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.records import FAILURE_CAUSES, Candidate, Measurement, known_cause
from autoprumux.search.presence import new_worker
from autoprumux.search.retries import REMEDIES, remedy_after, remedy_for
from autoprumux.search.runner import run_study
from autoprumux.storage.attempts import AttemptBook
from autoprumux.storage.database import Database
from autoprumux.storage.repository import Repository

Config = Callable[..., StudyConfig]

SECOND = Candidate(1, 0.6)


class RemediedEvaluator(SyntheticEvaluator):
    """Fails for a cause until it is remedied `num_needed` times."""

    cause = "out_of_memory"
    num_needed = 1
    remedies: tuple[Remedy, ...] = ()

    def with_remedy(self, remedy: Remedy) -> "RemediedEvaluator":
        other = replace(self)
        other.cause, other.num_needed = self.cause, self.num_needed
        other.remedies = (*self.remedies, remedy)
        return other

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        num_remedies = 0
        if self.remedies:
            num_remedies = REMEDIES[self.cause].index(self.remedies[-1]) + 1  # type: ignore[index]
        if candidate == SECOND and num_remedies < self.num_needed:
            raise TrialError("It went wrong.", cause=self.cause)
        return super().evaluate(candidate, seed, report)


class BrokenEvaluator(SyntheticEvaluator):
    """Raises `error` for one candidate, or for all but the baseline."""

    error: BaseException
    only: Candidate | None = None

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        is_due = not candidate.is_baseline if self.only is None else candidate == self.only
        if is_due:
            raise self.error
        return super().evaluate(candidate, seed, report)


def tries(database: Database, number: int) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        query = "SELECT outcome, cause, remedy FROM prumux_tries WHERE number = :number"
        rows = connection.execute(text(query + " ORDER BY attempt"), {"number": number})
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("cause", FAILURE_CAUSES)
def test_rules_are_of_known_causes_and_end(cause: Any) -> None:
    assert set(REMEDIES) <= set(FAILURE_CAUSES)
    assert remedy_for(cause, 10) is None
    assert known_cause(cause) == cause


def test_unknown_cause_is_an_error() -> None:
    assert known_cause("training") == "error"


@pytest.mark.parametrize(("cause", "num_needed"), [("out_of_memory", 2), ("nan", 1)])
def test_trial_is_tried_again_with_a_remedy(
    database: Database, config: Config, listener: Any, cause: str, num_needed: int
) -> None:
    evaluator = RemediedEvaluator()
    evaluator.cause, evaluator.num_needed = cause, num_needed
    texts = [remedy.text for remedy in REMEDIES[known_cause(cause)]]

    outcome = run_study(config(sampler="grid", max_trials=2), database, evaluator, listener)

    trial = outcome.study.trials[1]
    assert trial.measurement is not None
    assert trial.measurement.environment["remedy"] == texts[num_needed - 1]
    assert tries(database, 1) == [
        *(("retried", cause, remedy) for remedy in ["", *texts][:num_needed]),
        ("told", None, texts[num_needed - 1]),
    ]
    assert (
        listener.announced[-1] == f"trial 1 failed ({cause}); again with {texts[num_needed - 1]}"
    )


def test_trial_that_no_remedy_helps_fails_with_its_cause(
    database: Database, config: Config, listener: Any
) -> None:
    evaluator = RemediedEvaluator()
    evaluator.num_needed = 3

    outcome = run_study(config(sampler="grid", max_trials=2), database, evaluator, listener)

    failure = outcome.study.trials[1].failure
    assert failure is not None
    assert failure.cause == "out_of_memory"
    assert [row[0] for row in tries(database, 1)] == ["retried", "retried", "told"]


def test_evaluator_without_remedies_is_asked_once(
    database: Database, config: Config, listener: Any, make_evaluator: Any
) -> None:
    evaluator = make_evaluator(failing=frozenset({SECOND}), failure_cause="out_of_memory")

    run_study(config(sampler="grid", max_trials=2), database, evaluator, listener)

    assert evaluator.evaluated.count(SECOND) == 1


def test_trial_that_takes_too_long_is_stopped_at_its_next_report(
    database: Database, config: Config, listener: Any
) -> None:
    class SlowEvaluator(SyntheticEvaluator):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
            for step in range(600 if candidate == SECOND else 0):
                time.sleep(0.05)
                report("finetune/held_out_accuracy", 0.75, step)
                report("finetune/step", step, step)
            return super().evaluate(candidate, seed, report)

    settings = config(sampler="grid", max_trials=2, trial_timeout_s=1.0)
    outcome = run_study(settings, database, SlowEvaluator(), listener)

    failure = outcome.study.trials[1].failure
    assert failure is not None
    assert failure.cause == "timed_out"
    assert "longer than 1 s" in failure.message
    assert failure.last_accuracy == 0.75


def test_trial_that_cannot_read_its_data_stops_three_searches_and_then_fails(
    database: Database, config: Config, listener: Any
) -> None:
    evaluator = BrokenEvaluator()
    evaluator.error, evaluator.only = InputError("A file is damaged.", cause="checkpoint"), SECOND
    settings = config(sampler="grid", max_trials=3)

    for _ in range(2):
        with pytest.raises(InputError, match=r"A file is damaged\."):
            run_study(settings, database, evaluator, listener)
    outcome = run_study(settings, database, evaluator, listener)

    failure = outcome.study.trials[1].failure
    assert failure is not None
    assert (failure.cause, failure.message) == ("data_error", "A file is damaged.")
    assert [row[:2] for row in tries(database, 1)] == [
        ("given_back", "data_error"),
        ("given_back", "data_error"),
        ("told", "data_error"),
    ]
    assert outcome.num_trained == 3


class DeadError(BaseException):
    """Stands for `kill -9`: nothing in the package may catch it."""


def test_trial_in_which_three_processes_died_fails_as_killed(
    database: Database, config: Config, listener: Any
) -> None:
    evaluator = BrokenEvaluator()
    evaluator.error, evaluator.only = DeadError(), SECOND
    settings = config(sampler="grid", max_trials=3)

    for _ in range(3):
        with pytest.raises(DeadError):
            run_study(settings, database, evaluator, listener)
    outcome = run_study(settings, database, evaluator, listener)

    failure = outcome.study.trials[1].failure
    assert failure is not None
    assert failure.cause == "killed"
    assert failure.message.startswith("3 processes died while they trained it, the last of them ")
    assert [row[0] for row in tries(database, 1)] == ["lost", "lost", "lost", "told"]
    assert outcome.num_trained == 3


@dataclass
class DyingEvaluator(SyntheticEvaluator):
    """Dies while it trains one candidate until its batches are in enough parts."""

    needed: int = 4
    remedy: Remedy | None = None
    failure: TrialError | None = None
    """Raised once when it does not die."""
    seen: list[int] = field(default_factory=list)

    def with_remedy(self, remedy: Remedy) -> "DyingEvaluator":
        return replace(self, remedy=remedy)

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        if candidate == SECOND:
            self.seen.append(1 if self.remedy is None else self.remedy.num_parts)
            if self.seen[-1] < self.needed:
                raise DeadError
            if self.failure is not None and len(self.seen) == 3:
                raise self.failure
        return super().evaluate(candidate, seed, report)


def test_trial_in_which_two_processes_died_goes_on_in_smaller_batches(
    database: Database, config: Config, listener: Any
) -> None:
    settings, evaluator = config(sampler="grid", max_trials=3), DyingEvaluator()

    for _ in range(2):
        with pytest.raises(DeadError):
            run_study(settings, database, evaluator, listener)
    outcome = run_study(settings, database, evaluator, listener)

    trial = outcome.study.trials[1]
    assert evaluator.seen == [1, 1, 4]
    assert trial.measurement is not None
    assert trial.measurement.environment["remedy"] == "batches in 4 parts"
    assert tries(database, 1) == [
        ("lost", None, ""),
        ("lost", None, ""),
        ("told", None, "batches in 4 parts"),
    ]
    assert "2 processes died in trial 1; now batches in 4 parts" in listener.announced
    assert "remedy" not in outcome.study.trials[2].measurement.environment


@pytest.mark.parametrize(
    ("cause", "num_parts", "text"),
    [
        ("out_of_memory", 8, "batches in 8 parts"),
        ("nan", 4, "half the learning rate, batches in 4 parts"),
    ],
)
def test_what_fails_after_deaths_keeps_its_smaller_batches(
    database: Database, config: Config, listener: Any, cause: str, num_parts: int, text: str
) -> None:
    evaluator = DyingEvaluator(failure=TrialError("It went wrong.", cause=cause))
    settings = config(sampler="grid", max_trials=2)

    for _ in range(2):
        with pytest.raises(DeadError):
            run_study(settings, database, evaluator, listener)
    outcome = run_study(settings, database, evaluator, listener)

    assert evaluator.seen == [1, 1, 4, num_parts]
    measurement = outcome.study.trials[1].measurement
    assert measurement is not None
    assert measurement.environment["remedy"] == text


@pytest.mark.parametrize(
    ("num_deaths", "num_parts"), [(0, 1), (1, 1), (2, 4), (3, 8), (99, 2**20)]
)
def test_deaths_halve_batches_from_the_second_on(num_deaths: int, num_parts: int) -> None:
    remedy = remedy_after(num_deaths)

    assert (1 if remedy is None else remedy.num_parts) == num_parts


def test_search_in_which_everything_fails_ends_with_the_reason(
    database: Database, config: Config, listener: Any
) -> None:
    evaluator = BrokenEvaluator()
    evaluator.error = TrialError("Memory ran out; lower `max_sequences`.", cause="out_of_memory")

    outcome = run_study(config(max_trials=4), database, evaluator, listener)

    assert outcome.stop_reason == (
        "the cap of 4 trained trials is reached; all trials but the dense baseline failed, "
        "3 of 3 with out_of_memory: Memory ran out; lower `max_sequences`"
    )


def test_failed_baseline_of_another_worker_ends_this_one_with_the_reason(
    database: Database, config: Config, listener: Any, make_evaluator: Any
) -> None:
    """The other is first: it begins the baseline before this one joins, and fails it after."""
    baseline = Candidate(1, 0.0)
    failing = make_evaluator(failing=frozenset({baseline}), failure_cause="nan", sleep_s=1.5)
    errors: list[str] = []

    def fail() -> None:
        with pytest.raises(NoBaselineError, match="set to fail") as caught:
            run_study(config(), database, failing, listener)
        errors.append(str(caught.value))

    first = threading.Thread(target=fail)
    first.start()
    while not listener.started:
        time.sleep(0.02)
    second = make_evaluator()
    with pytest.raises(NoBaselineError, match="set to fail") as caught:
        run_study(config(), database, second, listener)
    first.join()

    assert errors == [str(caught.value)]
    assert second.evaluated == []


def test_stop_gives_the_trial_back_at_the_next_report(
    database: Database, config: Config, listener: Any
) -> None:
    stop = threading.Event()

    class StoppedEvaluator(SyntheticEvaluator):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
            if candidate == SECOND:
                stop.set()
            return super().evaluate(candidate, seed, report)

    settings = config(sampler="grid", max_trials=3)
    with pytest.raises(KeyboardInterrupt):
        run_study(settings, database, StoppedEvaluator(), listener, stop=stop)
    given_back = tries(database, 1)
    outcome = run_study(settings, database, SyntheticEvaluator(), listener)

    assert given_back == [("given_back", None, "")]
    assert [trial.state for trial in outcome.study.trials] == ["complete"] * 3


def test_outcome_of_a_trial_that_another_worker_took_over_is_dropped(
    database: Database, config: Config, listener: Any
) -> None:
    class TakenEvaluator(SyntheticEvaluator):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
            if candidate == SECOND and not taken:
                book = AttemptBook(database, "qnli-small")
                other = new_worker()
                book.join(other)
                assert book.begin(1, other, lambda _: False)
                taken.append(1)
            return super().evaluate(candidate, seed, report)

    taken: list[int] = []
    outcome = run_study(config(sampler="grid", max_trials=3), database, TakenEvaluator(), listener)

    assert any("taken up by another worker" in told for told in listener.announced)
    assert [row[0] for row in tries(database, 1)] == ["lost", "lost", "told"]
    assert len(outcome.study.trials) == 3
    assert Repository(database).load_study("qnli-small").trials[1].state == "complete"


@pytest.mark.parametrize(
    "error",
    [
        TrialError("`model.safetensors` could not be written: full.", cause="disk_full"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
@pytest.mark.parametrize("only", [Candidate(1, 0.0), SECOND])
def test_full_disk_ends_the_search_and_fails_no_trial_however_often(
    database: Database, config: Config, listener: Any, error: Exception, only: Candidate
) -> None:
    settings, broken = config(sampler="grid", max_trials=3, max_attempts=2), BrokenEvaluator()
    broken.error, broken.only = error, only

    for _ in range(3):
        with pytest.raises(TrialError, match=r"Free some space; the same command takes the trial"):
            run_study(settings, database, broken, listener)
    outcome = run_study(settings, database, SyntheticEvaluator(), listener)

    number = 0 if only.is_baseline else 1
    assert tries(database, number)[:3] == [("given_back", "disk_full", "")] * 3
    assert [trial.state for trial in outcome.study.trials] == ["complete"] * 3
