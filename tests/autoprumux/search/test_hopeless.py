import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autoprumux.config import StudyConfig
from autoprumux.evaluators.base import Report
from autoprumux.records import (
    HOPELESS,
    Candidate,
    Failure,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    StudyRecord,
    TrialRecord,
)
from autoprumux.search.hopeless import HopelessError, HopelessRule, Watch, repeatable
from autoprumux.search.runner import SearchOutcome, run_study
from autoprumux.storage.database import Database

BASELINE = Candidate(1, 0.0)
WIDE = Candidate(5, 0.0)
RULE = HopelessRule(baseline=0.90, budget=0.02, num_held_out=1000, num_validation=4000, offset=0.0)

FAR_OFF = {Candidate(5, 0.0), Candidate(5, 0.9), Candidate(10, 0.0), Candidate(10, 0.9)}
"""Candidates of the grid below that lose 5 points or more."""

Config = Callable[..., StudyConfig]


def watch(candidate: Candidate, phase: str, curve: list[float], num_updates: int = 400) -> Watch:
    """Yield a watch that has seen a curve of evenly spaced held-out accuracies."""
    watched = Watch(RULE, candidate)
    watched.see(f"{phase}/total", num_updates, 0)
    for number, accuracy in enumerate(curve, start=1):
        watched.see(f"{phase}/held_out_accuracy", accuracy, number * num_updates // 4)
    return watched


@pytest.mark.parametrize(
    ("candidate", "phase"),
    [(WIDE, "finetune"), (Candidate(5, 0.9), "finetune"), (Candidate(1, 0.9), "finetune_pruned")],
)
def test_curve_far_below_the_budget_is_stopped(candidate: Candidate, phase: str) -> None:
    with pytest.raises(
        HopelessError, match=rf"^After 200 of 400 updates of `{phase}`, 50\.0 on held-out"
    ) as caught:
        watch(candidate, phase, [0.45, 0.50])

    assert caught.value.cause == HOPELESS
    assert 0.50 < caught.value.reachable < 0.88


@pytest.mark.parametrize(
    ("candidate", "phase", "curve"),
    [
        pytest.param(WIDE, "finetune", [0.60, 0.75], id="rises steeply enough to get there"),
        pytest.param(WIDE, "finetune", [0.84, 0.85], id="within the noise of the budget"),
        pytest.param(WIDE, "finetune", [0.60], id="one point is no curve"),
        pytest.param(WIDE, "prune", [0.60, 0.60, 0.60], id="pruning is not scored"),
        pytest.param(Candidate(1, 0.9), "finetune", [0.6, 0.6], id="the dense baseline's own"),
        pytest.param(Candidate(5, 0.9), "finetune", [0.83, 0.83], id="pruning may close the gap"),
        pytest.param(WIDE, "finetune", [math.nan, 0.60], id="a score that is no number"),
    ],
)
def test_trial_that_may_get_there_goes_on(
    candidate: Candidate, phase: str, curve: list[float]
) -> None:
    watch(candidate, phase, curve)


def test_same_curve_is_stopped_if_nothing_can_close_the_gap_any_more() -> None:
    with pytest.raises(HopelessError):
        watch(Candidate(5, 0.9), "finetune_pruned", [0.83, 0.83])


def test_nothing_is_stopped_before_half_of_a_phase() -> None:
    watched = Watch(RULE, WIDE)
    watched.see("finetune/total", 800, 0)

    for step, accuracy in ((100, 0.44), (300, 0.50), (399, 0.50)):
        watched.see("finetune/held_out_accuracy", accuracy, step)

    with pytest.raises(HopelessError):
        watched.see("finetune/held_out_accuracy", 0.5, 400)


def test_dense_model_that_has_not_taken_off_yet_gets_three_quarters_of_its_phase() -> None:
    watched = watch(WIDE, "finetune", [0.50, 0.505])

    with pytest.raises(HopelessError, match=r"^After 300 of 400 updates"):
        watched.see("finetune/held_out_accuracy", 0.50, 300)


def test_fully_trained_model_is_measured_all_the_same() -> None:
    watched = Watch(RULE, WIDE)
    watched.see("finetune/total", 400, 0)

    watched.see("finetune/held_out_accuracy", 0.5, 100)
    watched.see("finetune/held_out_accuracy", 0.5, 400)


def test_curve_of_an_earlier_phase_does_not_count() -> None:
    watched = watch(Candidate(5, 0.9), "finetune", [0.60])

    watched.see("finetune_pruned/total", 400, 0)
    watched.see("finetune_pruned/held_out_accuracy", 0.60, 200)


def test_reachable_accuracy_grows_with_everything_that_is_uncertain() -> None:
    curve = [(0.25, 0.70), (0.5, 0.70)]
    plain = RULE.reachable(curve, is_last=True)

    few = replace(RULE, num_held_out=100).reachable(curve, is_last=True)
    shifted = replace(RULE, offset=0.03).reachable(curve, is_last=True)
    early = RULE.reachable(curve, is_last=False)
    rising = RULE.reachable([(0.25, 0.69), (0.5, 0.70)], is_last=True)

    assert 0.70 < plain < min(few, shifted, early, rising)
    assert shifted == pytest.approx(plain + 0.03)
    assert early == pytest.approx(plain + 0.20 / 3)
    assert rising == pytest.approx(plain + 0.02)


def test_rule_learns_how_far_a_trial_may_be_measured_above_its_held_out_accuracy(
    demo_study_record: Callable[..., StudyRecord],
) -> None:
    study = demo_study_record(budgets=(0.01, 0.03))
    first, *rest = study.trials
    assert first.measurement is not None
    scored = replace(first, measurement=_with_score(first.measurement, 0.89))

    rule = HopelessRule.from_study(replace(study, trials=(scored, *rest)), 500)

    assert rule is not None
    assert (rule.budget, rule.num_held_out) == (0.03, 500)
    assert rule.offset >= first.measurement.accuracy - 0.89
    assert HopelessRule.from_study(replace(study, trials=()), 500) is None


def _with_score(measurement: Measurement, score: float) -> Measurement:
    point = HistoryPoint(name="held_out_accuracy", value=score, step=400)
    phase = PhaseRecord(
        name="finetune",
        num_updates=400,
        duration_s=1.0,
        memory_mib=1.0,
        is_cached=False,
        history=(point,),
    )
    return replace(measurement, phases=(phase,))


def stopped_trial(number: int, candidate: Candidate, reachable: float | None) -> TrialRecord:
    cause = "out_of_memory" if reachable is None else HOPELESS
    failure = Failure(cause=cause, message="", reachable_accuracy=reachable)
    return TrialRecord(number=number, candidate=candidate, state="failed", failure=failure)


def test_stopped_candidate_is_repeatable_exactly_if_the_budget_of_now_may_be_met(
    demo_study_record: Callable[..., StudyRecord],
) -> None:
    study = demo_study_record(budgets=(0.02,))
    study = replace(study, trials=(study.trials[0], stopped_trial(7, WIDE, 0.85)))

    found = {
        budget: WIDE in repeatable(replace(study, budgets=(0.01, budget)))
        for budget in (0.02, 0.05, 0.06, 0.10)
    }

    assert found == {0.02: False, 0.05: False, 0.06: True, 0.10: True}


def test_later_mishap_of_a_stopped_candidate_is_not_tried_for_ever(
    demo_study_record: Callable[..., StudyRecord],
) -> None:
    study = demo_study_record(budgets=(0.5,))
    trials = (study.trials[0], stopped_trial(7, WIDE, 0.85), stopped_trial(8, WIDE, None))

    assert repeatable(replace(study, trials=trials)) == {BASELINE}


@pytest.fixture
def curves(make_evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Evaluator whose wide models report a flat, low curve while they are fine-tuned."""
    evaluator = make_evaluator()
    evaluate = evaluator.evaluate
    evaluator.completed = []

    def report_first(candidate: Candidate, seed: int, report: Report) -> Measurement:
        report("finetune/total", 400, 0)
        accuracy = evaluator.task.accuracy(candidate) - 0.02
        for step in (100, 200, 300):
            report("finetune/held_out_accuracy", accuracy, step)
        measurement: Measurement = evaluate(candidate, seed, report)
        evaluator.completed.append(candidate)
        return measurement

    monkeypatch.setattr(evaluator, "evaluate", report_first)
    return evaluator


def search(database: Database, listener: Any, config: StudyConfig, curves: Any) -> SearchOutcome:
    return run_study(config, database, curves, listener)


def tight(config: Config, **settings: object) -> StudyConfig:
    grid = {"widths": (1, 2, 5, 10), "sparsities": (0.0, 0.9), "max_trials": 50}
    return config(**{**grid, "stop_chance": 0.0, "sampler": "grid", **settings})


def test_search_stores_a_stopped_trial_with_its_last_accuracy_and_goes_on(
    database: Database, listener: Any, config: Config, curves: Any
) -> None:
    outcome = search(database, listener, tight(config), curves)

    failures = {t.candidate: t.failure for t in outcome.study.trials if t.failure}
    assert set(failures) == FAR_OFF
    for candidate, failure in failures.items():
        assert failure.cause == HOPELESS
        assert failure.last_accuracy == pytest.approx(curves.task.accuracy(candidate) - 0.02)
        assert failure.reachable_accuracy is not None
        assert curves.task.accuracy(candidate) < failure.reachable_accuracy < 0.88
    assert outcome.stop_reason == "all 8 candidates are tried"


def test_nothing_is_stopped_early_if_that_is_switched_off(
    database: Database, listener: Any, config: Config, curves: Any
) -> None:
    outcome = search(database, listener, tight(config, stop_hopeless=False), curves)

    assert len(outcome.study.measured) == 8


def test_looser_budget_takes_up_what_was_stopped_for_a_tighter_one_and_nothing_else(
    database: Database, listener: Any, config: Config, curves: Any
) -> None:
    search(database, listener, tight(config), curves)
    before = list(curves.completed)

    search(database, listener, tight(config), curves)
    unchanged = list(curves.completed)
    outcome = search(database, listener, tight(config, budgets=(0.5,)), curves)

    assert unchanged == before
    assert set(curves.completed) - set(before) == FAR_OFF
    assert len(outcome.study.measured) == 8
    best = outcome.answers[0].best
    assert best is not None
    assert best.candidate == Candidate(10, 0.9)


def test_search_by_the_model_leaves_out_what_is_larger_than_a_stopped_candidate(
    database: Database, listener: Any, config: Config, curves: Any
) -> None:
    settings = tight(config, sampler="performance_model", stop_chance=0.05)

    outcome = search(database, listener, settings, curves)

    stopped = [t.candidate for t in outcome.study.trials if t.failure]
    assert Candidate(10, 0.9) not in outcome.study.measured
    assert len(stopped) <= 2
    assert outcome.stop_reason.startswith("settled")
