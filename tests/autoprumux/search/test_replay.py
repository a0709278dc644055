from dataclasses import replace
from typing import get_args

import pytest

from autoprumux.config import SearchConfig
from autoprumux.errors import InputError, NoBaselineError, UsageError
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, TrialRecord
from autoprumux.search.replay import (
    SAMPLERS,
    ReplayedSearch,
    as_sampler,
    replay_search,
)
from autoprumux.search.replay_summary import REGRET_AFTER, summarise
from autoprumux.search.runner import run_study
from autoprumux.search.sampler import Order
from autoprumux.search.space import SearchSpace

FAST = [name for name in SAMPLERS if name != "gp"]  # its sampler needs torch and seconds
BASELINE, FAILING = Candidate(1, 0.0), Candidate(1, 0.9)


def make_search(**changes) -> SearchConfig:
    settings = {"widths": (1, 2, 5), "sparsities": (0.0, 0.6, 0.9), "max_trials": 9, **changes}
    return SearchConfig(**settings)


def replay(sampler="performance_model", make_evaluator=SyntheticEvaluator, **changes):
    search = make_search(**changes)
    return replay_search(make_evaluator, SearchSpace.from_config(search), search, sampler)


def order_of(search: ReplayedSearch) -> list[Candidate]:
    return [trial.candidate for trial in search.trials]


def failing() -> SyntheticEvaluator:
    return SyntheticEvaluator(is_noisy=True, failing=frozenset({FAILING}))


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("budget", [0.02, 0.5])
def test_a_replay_tries_and_answers_what_a_search_does(order, budget, config, database, listener):
    searched = run_study(
        config(sampler=order, budgets=(budget,), max_trials=9, seed=3),
        database,
        failing(),
        listener,
    )

    replayed = replay(order, failing, budgets=(budget,), seed=3)

    tried = [trial.candidate for trial in searched.study.trials]
    assert order_of(replayed)[: replayed.num_until_stop] == tried
    opening = {"settled": "settled", "cap": "the cap", "all tried": "all 9"}
    assert searched.stop_reason.startswith(opening[replayed.stop_reason])
    assert replayed.answers() == (searched.answers[0].best.candidate,)
    assert replayed.minutes_until_stop() == pytest.approx(
        sum(m.duration_s for m in searched.study.measured.values()) / 60
    )


@pytest.mark.parametrize("sampler", FAST)
def test_every_sampler_finds_the_best_and_measures_nothing_twice(sampler):
    replayed = replay(sampler, budgets=(0.02,))

    order = order_of(replayed)
    optimum = SyntheticEvaluator().optimum(0.02, SearchSpace.from_config(make_search()).candidates)
    assert order[0] == BASELINE
    assert len(order) == len(set(order))
    (first,) = replayed.num_until_best()
    assert order[first - 1] == optimum
    assert replayed.answers() == (optimum,)


@pytest.mark.parametrize("sampler", FAST)
def test_a_sampler_may_be_asked_for_several_budgets(sampler):
    replayed = replay(sampler, budgets=(0.0, 0.02, 0.5))

    assert replayed.regret_after(9) == pytest.approx(0.0)
    assert len(replayed.answers()) == 3


def test_a_search_goes_on_after_its_stop_until_the_best_is_measured():
    replayed = replay("grid", budgets=(0.5,), max_trials=3)

    assert (replayed.num_until_stop, replayed.stop_reason) == (3, "cap")
    assert replayed.num_until_best() == (9,)
    assert len(replayed.trials) == 9
    assert replayed.answers() == (Candidate(1, 0.9),)


def test_a_failure_is_a_trial_and_no_answer():
    replayed = replay("grid", failing, budgets=(0.5,))

    (failed,) = (trial for trial in replayed.trials if trial.failure is not None)
    assert failed.candidate == FAILING
    assert failed.failure.cause == "sparsity_not_reached"
    assert replayed.answers() == (Candidate(5, 0.9),)


@pytest.mark.parametrize("sampler", FAST)
def test_holes_of_the_grid_are_never_tried(sampler):
    search = make_search(budgets=(0.5,))
    grid = SearchSpace.from_config(search).candidates
    space = SearchSpace(tuple(c for c in grid if c != Candidate(5, 0.9)))

    replayed = replay_search(SyntheticEvaluator, space, search, sampler)

    assert set(order_of(replayed)) <= set(space.candidates)
    assert replayed.answers() == (SyntheticEvaluator().optimum(0.5, space.candidates),)


def test_a_sampler_that_repeats_itself_is_not_charged_for_it():
    replayed = replay("optuna_random", budgets=(0.5,))

    assert replayed.num_repeated > 0
    assert len(order_of(replayed)) == len(set(order_of(replayed)))


def test_a_recorded_baseline_that_failed_is_refused():
    with pytest.raises(NoBaselineError, match=r"With seed 4 the recorded dense baseline"):
        replay(make_evaluator=lambda: SyntheticEvaluator(failing=frozenset({BASELINE})), seed=4)


def test_a_candidate_that_is_not_recorded_is_an_error():
    class Empty(SyntheticEvaluator):
        def evaluate(self, candidate, seed, report):
            raise InputError("Not recorded.", cause="not_recorded")

    with pytest.raises(InputError, match=r"Not recorded\."):
        replay(make_evaluator=Empty)


def test_an_unknown_sampler_is_refused():
    with pytest.raises(UsageError, match=r"`--sampler` must be of performance_model, .*'best'"):
        as_sampler("best")


def make_replayed(accuracies_and_speedups, *, budgets=(0.02,), bests=(4.0,), stop=None):
    demo = SyntheticEvaluator(task=SyntheticTask()).evaluate(BASELINE, 0, lambda *_: None)
    trials = []
    for number, (accuracy, speedup) in enumerate(accuracies_and_speedups):
        measurement = replace(
            demo, accuracy=accuracy, throughput=replace(demo.throughput, speedup=speedup)
        )
        candidate = Candidate(1, round(0.1 * number, 1))
        trials.append(
            TrialRecord(
                number=number, candidate=candidate, state="complete", measurement=measurement
            )
        )
    return ReplayedSearch(
        sampler="grid",
        seed=0,
        budgets=budgets,
        trials=tuple(trials),
        num_repeated=0,
        num_until_stop=stop or len(trials),
        stop_reason="cap",
        bests=bests,
    )


TRIALS = [(0.90, 1.0), (0.80, 9.0), (0.89, 2.0), (0.88, 4.0)]


def test_regret_is_the_share_of_the_best_speedup_that_is_missed():
    replayed = make_replayed(TRIALS, budgets=(0.02, 0.10), bests=(4.0, 9.0))

    assert replayed.regret_after(1) == pytest.approx((0.75 + 8 / 9) / 2)
    assert replayed.regret_after(2) == pytest.approx(0.75 / 2)
    assert replayed.regret_after(3) == pytest.approx(0.5 / 2)
    assert replayed.regret_after(4) == pytest.approx(0.0)
    assert replayed.num_until_best() == (4, 2)
    assert replayed.answers() == (Candidate(1, 0.3), Candidate(1, 0.1))


def test_a_best_that_was_never_measured_counts_as_one_trial_more():
    searches = [
        make_replayed(trials, bests=(best,))
        for trials, best in ((TRIALS[:1], 1.0), (TRIALS, 4.0), (TRIALS, 5.0))
    ]

    summary = summarise(searches)

    assert [s.num_until_best() for s in searches] == [(1,), (4,), (None,)]
    assert summary["median_until_best"] == 4
    assert summary["percentile_90_until_best"] == pytest.approx(4.8)
    assert summary["regret_after"].keys() == set(REGRET_AFTER)
    assert summary["regret_after"][4] == pytest.approx((0 + 0 + 0.2) / 3)


def test_a_sampler_is_tested_against_the_first_by_seed():
    quick = [make_replayed(TRIALS, bests=(2.0,)) for _ in range(4)]  # the third trial has it
    slow = [make_replayed(TRIALS, bests=(4.0,)) for _ in range(4)]

    summary, other, same = summarise(quick), summarise(slow, quick), summarise(quick, slow)

    assert summary["p_reference_needs_fewer"] is None
    assert other["p_reference_needs_fewer"] == 1 / 2**4
    assert same["p_reference_needs_fewer"] == 1.0


def test_intervals_are_over_searches_and_hold_the_values():
    searches = [make_replayed(TRIALS[:n], bests=(4.0,)) for n in (1, 2, 3, 4, 4, 4)]

    summary = summarise(searches)

    assert summary["mean_until_best"] == pytest.approx((2 + 3 + 4 + 4 + 4 + 4) / 6)
    for name in ("median_until_best", "percentile_90_until_best", "mean_until_best"):
        low, high = summary[f"{name}_interval"]
        assert low <= summary[name] <= high
    low, high = summary["regret_after_interval"][4]
    assert 0.0 <= low < summary["regret_after"][4] < high < 0.75


def test_a_search_may_end_where_it_would_stop():
    search = make_search(budgets=(0.5,), max_trials=3)
    space = SearchSpace.from_config(search)

    replayed = replay_search(SyntheticEvaluator, space, search, "grid", goes_on=False)

    assert len(replayed.trials) == replayed.num_until_stop == 3
    assert replayed.num_until_best() == (None,)


def test_what_is_answered_is_what_was_measured_before_the_stop():
    summary = summarise([make_replayed(TRIALS, stop=3)])

    assert summary["mean_until_stop"] == 3
    assert summary["regret_at_stop"] == pytest.approx(0.5)
    (search,) = summary["searches"]
    (answer,) = search["answers"]
    assert (answer["sparsity"], answer["speedup"], answer["num_until_best"]) == (0.2, 2.0, 4)
    assert len(search["trials"]) == 4
