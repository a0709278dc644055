"""Studies that have little or nothing to go on: each gets a clear answer or one clear sentence."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autoprumux.answers import answer_budgets
from autoprumux.config import StudyConfig
from autoprumux.errors import (
    InputError,
    MixedDevicesError,
    NoBaselineError,
    StorageError,
    UsageError,
)
from autoprumux.records import Candidate, Measurement, StudyRecord
from autoprumux.search.runner import SearchOutcome, run_study
from autoprumux.storage.database import Database
from autoprumux.storage.repository import Repository

BASELINE = Candidate(1, 0.0)
GRID = [Candidate(n, s) for n in (1, 2, 5) for s in (0.0, 0.6, 0.9)]

Search = Callable[..., SearchOutcome]
Config = Callable[..., StudyConfig]


@pytest.fixture
def search(database: Database, listener: Any) -> Search:
    """Factory: `search(config, evaluator)`."""
    return lambda config, evaluator: run_study(config, database, evaluator, listener)


def everything(config: Config, **settings: object) -> StudyConfig:
    return config(**{"max_trials": 50, "stop_chance": 0.0, **settings})


def test_study_without_a_baseline_names_the_remedy(
    search: Search, config: Config, evaluator: Any
) -> None:
    study = search(config(max_trials=2), evaluator).study

    with pytest.raises(NoBaselineError, match=r"no measured dense baseline.*Run `autoprumux s"):
        answer_budgets(replace(study, trials=study.trials[1:]), [0.02])


def test_study_of_one_width_is_answered_and_predicted(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    outcome = search(everything(config, widths=(1,), max_trials=2), make_evaluator())

    (answer,) = outcome.answers
    assert answer.best is not None
    assert answer.best.candidate.num_instances == 1
    assert {p.candidate.num_instances for p in answer.predicted} == {1}


@pytest.mark.parametrize("sampler", ["performance_model", "grid", "tpe"])
@pytest.mark.parametrize("cause", ["out_of_memory", "sparsity_not_reached"])
def test_study_whose_trials_all_failed_but_the_baseline_answers_with_it(
    search: Search, config: Config, make_evaluator: Any, sampler: str, cause: str
) -> None:
    failing = frozenset(GRID) - {BASELINE}
    evaluator = make_evaluator(failing=failing, failure_cause=cause)

    outcome = search(everything(config, sampler=sampler), evaluator)

    (answer,) = outcome.answers
    assert answer.best is not None
    assert answer.best.candidate == BASELINE
    assert answer.closest is None
    assert [p.candidate for p in answer.predicted] == [BASELINE]
    assert outcome.num_trained == 9
    assert outcome.stop_reason.startswith("all 9 candidates are tried; all trials but")
    assert f"8 of 8 with {cause}" in outcome.stop_reason


def test_study_of_failures_alone_has_no_baseline(
    search: Search, config: Config, make_evaluator: Any, database: Database
) -> None:
    with pytest.raises(NoBaselineError, match=r"^The dense baseline failed"):
        search(config(), make_evaluator(failing=frozenset(GRID)))

    with pytest.raises(NoBaselineError, match="no measured dense baseline"):
        answer_budgets(Repository(database).load_study("qnli-small"), [0.02])


def spoil(monkeypatch: pytest.MonkeyPatch, evaluator: Any, **changes: float) -> None:
    """Have every trial but the baseline yield `changes` of its throughput or accuracy."""
    evaluate = evaluator.evaluate

    def spoilt(candidate: Candidate, seed: int, report: Any) -> Measurement:
        measurement: Measurement = evaluate(candidate, seed, report)
        if candidate == BASELINE:
            return measurement
        if "accuracy" in changes:
            return replace(measurement, accuracy=changes["accuracy"])
        return replace(measurement, throughput=replace(measurement.throughput, **changes))  # type: ignore[arg-type]

    monkeypatch.setattr(evaluator, "evaluate", spoilt)


@pytest.mark.parametrize(
    "changes", [{"accuracy": math.nan}, {"speedup": math.nan}, {"speedup": 0.0}]
)
def test_values_that_are_no_numbers_are_failures_and_the_search_ends_with_the_baseline(
    search: Search,
    config: Config,
    make_evaluator: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, float],
) -> None:
    evaluator = make_evaluator()
    spoil(monkeypatch, evaluator, **changes)

    outcome = search(everything(config), evaluator)

    failures = [trial.failure for trial in outcome.study.trials if trial.failure]
    assert [failure.cause for failure in failures] == ["nan"] * 8
    assert outcome.answers[0].best is not None
    assert outcome.answers[0].best.candidate == BASELINE


def test_nan_in_the_rest_of_a_measurement_is_refused_by_name(
    search: Search, config: Config, make_evaluator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make_evaluator()
    spoil(monkeypatch, evaluator, speedup_q1=math.nan)

    with pytest.raises(StorageError, match=r"^`speedup_q1` of trial 1 must be a finite number"):
        search(config(), evaluator)


def test_study_with_nan_is_not_answered(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    study = search(config(max_trials=2), make_evaluator()).study
    first, second = study.trials
    assert second.measurement is not None
    spoilt = replace(second, measurement=replace(second.measurement, accuracy=math.nan))

    with pytest.raises(UsageError, match="finite"):
        answer_budgets(replace(study, trials=(first, spoilt)), [0.02])


def on_device(study: StudyRecord, number: int, device: str) -> StudyRecord:
    trials = list(study.trials)
    measurement = trials[number].measurement
    assert measurement is not None
    throughput = replace(measurement.throughput, device=device)
    trials[number] = replace(
        trials[number], measurement=replace(measurement, throughput=throughput)
    )
    return replace(study, trials=tuple(trials))


def test_study_of_two_devices_is_not_answered_and_they_are_named(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    study = search(config(max_trials=3), make_evaluator()).study

    with pytest.raises(MixedDevicesError, match=r"baseline on `synthetic`, trial 2 on `H200`\."):
        answer_budgets(on_device(study, 2, "H200"), [0.02])


def test_search_on_another_device_than_the_baselines_stops_and_that_device_takes_it_up(
    search: Search, config: Config, make_evaluator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(config(max_trials=1), make_evaluator())
    elsewhere = make_evaluator()
    evaluate = elsewhere.evaluate

    def on_gpu(candidate: Candidate, seed: int, report: Any) -> Measurement:
        measurement: Measurement = evaluate(candidate, seed, report)
        return replace(measurement, throughput=replace(measurement.throughput, device="H200"))

    monkeypatch.setattr(elsewhere, "evaluate", on_gpu)

    with pytest.raises(InputError, match=r"was measured on `synthetic`.*measures on `H200`"):
        search(config(max_trials=3), elsewhere)
    outcome = search(config(max_trials=3), make_evaluator())

    assert len(elsewhere.evaluated) == 1
    assert [trial.state for trial in outcome.study.trials] == ["complete"] * 3
    assert outcome.study.trials[1].candidate == elsewhere.evaluated[0]


@pytest.mark.parametrize("sampler", ["performance_model", "gp"])
def test_budget_that_nothing_faster_meets_is_answered_with_the_baseline_and_the_closest(
    search: Search, config: Config, make_evaluator: Any, sampler: str
) -> None:
    outcome = search(everything(config, budgets=(0.0,), sampler=sampler), make_evaluator())

    (answer,) = outcome.answers
    assert not answer.is_met
    assert answer.best is not None
    assert answer.best.candidate == BASELINE
    assert answer.closest is not None
    faster = [m for c, m in outcome.study.measured.items() if c != BASELINE]
    assert answer.closest.measurement.accuracy == max(m.accuracy for m in faster)
