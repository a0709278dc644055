"""Studies that have little or nothing to go on: each gets a clear answer or one clear sentence."""

import math
import re
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
from autoprumux.evaluators.synthetic import SyntheticEvaluator
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


def test_study_with_nan_is_no_prior_and_one_that_was_is_missed_by_name(
    search: Search,
    config: Config,
    make_evaluator: Any,
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def of_task(task: str, max_trials: int) -> SearchOutcome:
        asked = config(name=task, max_trials=max_trials, stop_chance=0.0)
        return search(replace(asked, trainer=replace(asked.trainer, task=task)), make_evaluator())

    def damage(task: str) -> None:
        of_study = f"study_id = (SELECT study_id FROM prumux_studies WHERE name = '{task}')"
        with database.write() as connection:
            connection.exec_driver_sql(
                f"UPDATE prumux_measurements SET accuracy = 'NaN' WHERE number = 2 AND {of_study}"
            )

    for task in ("qqp", "sst2"):
        of_task(task, 5)
    damage("qqp")

    choices = [trial.choice for trial in of_task("mnli", 3).study.trials]
    damage("sst2")

    assert choices[-1] is not None
    assert "prior: sst2" in choices[-1].reason
    assert re.search(r"study `qqp` is left out: .*`accuracy` .* got 'NaN'", caplog.text)
    with pytest.raises(StorageError, match=r"^Study `sst2`, which study `mnli` learns from, can"):
        of_task("mnli", 5)


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


def timed_elsewhere(measurement: Measurement, **changes: Any) -> Measurement:
    """What another setting would have measured: fields of the throughput, or the processor."""
    environment = {"processor": changes.pop("processor", "Old 1")}
    throughput = replace(measurement.throughput, **{"device": "cpu", **changes})
    return replace(measurement, throughput=throughput, environment=environment)


def on_cpu(study: StudyRecord, number: int = 0, **changes: Any) -> StudyRecord:
    """The study with all trials timed on a CPU, one of them elsewhere."""
    trials = []
    for trial in study.trials:
        assert trial.measurement is not None
        other = changes if trial.number == number else {}
        measurement = timed_elsewhere(trial.measurement, **other)
        trials.append(replace(trial, measurement=measurement))
    return replace(study, trials=tuple(trials))


SETTINGS = [
    ({"device": "H200"}, "`device` 'cpu'", "`device` 'H200'"),
    ({"processor": "New 2"}, "`processor` 'Old 1'", "`processor` 'New 2'"),
    ({"num_threads": 8}, "`num_threads` 1", "`num_threads` 8"),
    ({"dtype": "bfloat16"}, "`dtype` 'float32'", "`dtype` 'bfloat16'"),
    ({"batch_size": 7}, "`batch_size` 32", "`batch_size` 7"),
    ({"length": 9}, "`length` 64", "`length` 9"),
]


@pytest.mark.parametrize(("change", "own", "other"), SETTINGS)
def test_study_of_two_settings_is_not_answered_and_they_are_named(
    search: Search,
    config: Config,
    make_evaluator: Any,
    change: dict[str, Any],
    own: str,
    other: str,
) -> None:
    study = search(config(max_trials=3), make_evaluator()).study

    assert answer_budgets(on_cpu(study), [0.02])
    with pytest.raises(
        MixedDevicesError,
        match=rf"baseline with {own}, trial 2 with {other}\. Time all .* \(`autoprumux bench ",
    ):
        answer_budgets(on_cpu(study, 2, **change), [0.02])


def test_unknown_processor_is_like_any_but_two_known_ones_differ(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    study = search(config(max_trials=3), make_evaluator()).study
    old = on_cpu(study, 0, processor="")
    last = old.trials[2]
    assert last.measurement is not None
    other = replace(last, measurement=timed_elsewhere(last.measurement, processor="New 2"))

    assert answer_budgets(old, [0.02])
    with pytest.raises(MixedDevicesError, match=r"'Old 1', trial 2 with `processor` 'New 2'\."):
        answer_budgets(replace(old, trials=(*old.trials[:2], other)), [0.02])


def test_processor_beside_a_gpu_does_not_matter(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    study = search(config(max_trials=2), make_evaluator()).study
    on_gpu = [
        replace(t, measurement=t.measurement and timed_elsewhere(t.measurement, device="H200"))
        for t in study.trials
    ]
    moved = on_gpu[1].measurement
    assert moved is not None
    on_gpu[1] = replace(on_gpu[1], measurement=replace(moved, environment={"processor": "New"}))

    assert answer_budgets(replace(study, trials=tuple(on_gpu)), [0.02])


class Elsewhere:
    """Has an evaluator measure in another setting than its own.

    Args:
        evaluator: What is changed.
        monkeypatch: Takes the changes back.
        is_foreseen: Whether it knows before it trains.
        changes: See `timed_elsewhere`.
    """

    def __init__(
        self, evaluator: Any, monkeypatch: pytest.MonkeyPatch, is_foreseen: bool, **changes: Any
    ) -> None:
        evaluate = evaluator.evaluate

        def moved(candidate: Candidate, seed: int, report: Any) -> Measurement:
            return timed_elsewhere(evaluate(candidate, seed, report), **changes)

        monkeypatch.setattr(evaluator, "evaluate", moved)
        if is_foreseen:
            found = SyntheticEvaluator().evaluate(BASELINE, 0, lambda *_: None)
            setting = timed_elsewhere(found, **changes).timing
            monkeypatch.setattr(evaluator, "timing", lambda: setting, raising=False)
        self.evaluator = evaluator


@pytest.mark.parametrize("is_foreseen", [False, True])
@pytest.mark.parametrize(("change", "own", "other"), SETTINGS[:3])
def test_search_in_another_setting_than_the_baselines_stops_and_the_right_one_goes_on(
    search: Search,
    config: Config,
    make_evaluator: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    own: str,
    other: str,
    is_foreseen: bool,
) -> None:
    here, elsewhere = (
        Elsewhere(make_evaluator(), monkeypatch, is_foreseen, **changes).evaluator
        for changes in ({}, change)
    )
    search(config(max_trials=1), here)

    with pytest.raises(InputError, match=rf"measured with {own}, here it is {other}, and.*or in"):
        search(config(max_trials=3), elsewhere)
    outcome = search(config(max_trials=3), here)

    assert len(elsewhere.evaluated) == (0 if is_foreseen else 1)
    assert [trial.state for trial in outcome.study.trials] == ["complete"] * 3
    assert elsewhere.evaluated in ([], [outcome.study.trials[1].candidate])


def test_finished_search_is_told_in_any_setting(
    search: Search, config: Config, make_evaluator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = (
        Elsewhere(make_evaluator(), monkeypatch, True, num_threads=num).evaluator for num in (1, 2)
    )

    first = search(config(max_trials=2), here)
    again = search(config(max_trials=2), elsewhere)

    assert again.answers == first.answers
    assert elsewhere.evaluated == []


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
