import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from autoprumux.evaluators.synthetic import DEFAULT_GRID, SyntheticEvaluator
from autoprumux.records import Candidate, Measurement
from autoprumux.search.acquisition import (
    NEAR_TIE,
    Proposal,
    chance_above,
    chance_to_beat,
    expected_log_gain,
    rank_by_score,
    verified_best,
)
from autoprumux.surrogates.performance import COLLAPSED, PerformanceModel

BASELINE = Candidate(1, 0.0)


def measure(*candidates: Candidate) -> dict[Candidate, Measurement]:
    evaluator = SyntheticEvaluator()
    return {c: evaluator.evaluate(c, 0, lambda *_: None) for c in candidates}


def fit(
    measured: dict[Candidate, Measurement], failed: Sequence[Candidate] = ()
) -> PerformanceModel:
    return PerformanceModel.from_measured(measured, dict.fromkeys(failed, COLLAPSED), DEFAULT_GRID)


MEASURED = measure(BASELINE, Candidate(2, 0.0), Candidate(1, 0.9), Candidate(5, 0.8))
FREE = [c for c in DEFAULT_GRID if c not in MEASURED]


def rank(
    budgets: tuple[float, ...] = (0.02,),
    minutes: Callable[[Candidate], float] = lambda _: 1.0,
) -> list[Proposal]:
    return rank_by_score(fit(MEASURED), MEASURED, FREE, budgets, minutes)


def score(proposal: Proposal) -> float:
    assert proposal.choice.score is not None
    return proposal.choice.score


def test_verified_best_is_the_fastest_within_the_budget() -> None:
    assert verified_best(MEASURED, 0.0) == 1.0
    assert verified_best(MEASURED, 0.02) == MEASURED[Candidate(2, 0.0)].speedup
    assert verified_best(MEASURED, 0.5) == MEASURED[Candidate(5, 0.8)].speedup


def test_loss_on_the_border_of_the_budget_is_within() -> None:
    faster = replace(MEASURED[Candidate(2, 0.0)], accuracy=0.90)
    measured = {BASELINE: replace(MEASURED[BASELINE], accuracy=0.91), Candidate(2, 0.0): faster}

    assert verified_best(measured, 0.01) == faster.speedup


def test_every_free_candidate_is_ranked_once_by_falling_score() -> None:
    ranked = rank()

    assert sorted(p.candidate for p in ranked) == sorted(FREE)
    for before, after in pairwise(ranked):
        assert score(after) <= score(before) / (1 - NEAR_TIE)


def test_near_ties_go_to_the_smaller_candidate() -> None:
    ranked = rank()

    for before, after in pairwise(ranked):
        if before.candidate > after.candidate:
            assert score(after) < score(before)


def test_score_weighs_the_gain_with_the_chance_to_be_the_fastest_within_the_budget() -> None:
    model, rng = fit(MEASURED), np.random.default_rng(0)
    falling = sorted(model.predict(FREE), key=lambda p: -p.speedup)
    chances = np.array([model.chance_within(p.candidate, 0.02) for p in falling])
    is_within = rng.random((100_000, len(falling))) < chances
    is_fastest = is_within & (is_within.cumsum(axis=1) == 1)
    simulated = {p.candidate: x for p, x in zip(falling, is_fastest.mean(axis=0), strict=True)}

    for proposal in rank(minutes=lambda _: 4.0):
        gain, chance = proposal.choice.log_gain, proposal.choice.chance_best
        assert gain is not None
        assert chance == pytest.approx(simulated[proposal.candidate], abs=0.01)
        assert proposal.choice.expected_gain == math.exp(gain)
        assert score(proposal) == pytest.approx(gain ** (2 / 3) * chance ** (1 / 3) / 2.0)


def test_score_counts_what_is_pending_among_those_that_may_be_the_fastest() -> None:
    pending = FREE[-1]
    free = [c for c in FREE if c != pending]
    sure = fit(MEASURED)
    with_pending = rank_by_score(sure, MEASURED, free, (0.5,), lambda _: 1.0, [pending])
    without = rank_by_score(sure, MEASURED, free, (0.5,), lambda _: 1.0)

    before = {p.candidate: score(p) for p in without}
    assert sure.chance_within(pending, 0.5) > 0.5
    assert all(score(p) <= before[p.candidate] + 1e-12 for p in with_pending)
    assert max(score(p) for p in with_pending) < 0.9 * max(before.values())


def test_score_counts_minutes_by_their_root() -> None:
    one = {p.candidate: score(p) for p in rank()}
    four = {p.candidate: score(p) for p in rank(minutes=lambda _: 4.0)}

    assert all(four[c] == pytest.approx(one[c] / 2) for c in FREE)


def test_dear_candidate_comes_later() -> None:
    first = rank()[0].candidate

    dearer = rank(minutes=lambda c: 100.0 if c == first else 1.0)

    assert dearer[0].candidate != first


def test_gain_of_several_budgets_is_their_geometric_mean() -> None:
    gains = [
        {p.candidate: math.log(p.choice.expected_gain or 0) for p in rank(budgets)}
        for budgets in ((0.01,), (0.05,), (0.01, 0.05))
    ]

    tight, loose, both = gains
    assert all(both[c] == pytest.approx((tight[c] + loose[c]) / 2) for c in FREE)


def test_reason_names_chance_budget_gain_and_minutes() -> None:
    choice = rank((0.01, 0.05), lambda _: 1.25)[0].choice

    assert choice.chance is not None
    assert choice.reason.startswith(f"chance {choice.chance:.2f} to meet 5.0 points, gain ")
    assert choice.reason.endswith("x, about 1.2 min")


@pytest.mark.parametrize("best", [1.0, 3.0, 20.0])
def test_expected_log_gain_equals_a_simulation(best: float) -> None:
    prediction = fit(MEASURED).predict([Candidate(2, 0.9)])[0]
    draws = np.random.default_rng(0).normal(
        math.log(prediction.speedup), prediction.log_speedup_std, 400_000
    )

    gain = expected_log_gain(prediction, best)

    simulated = np.maximum(draws - math.log(best), 0.0).mean()
    assert gain == pytest.approx(simulated, rel=0.02, abs=1e-3)


def test_certain_speedup_gains_exactly_its_ratio() -> None:
    prediction = replace(
        fit(MEASURED).predict([Candidate(2, 0.9)])[0], speedup=6.0, log_speedup_std=0.0
    )

    assert expected_log_gain(prediction, 3.0) == pytest.approx(math.log(2))
    assert expected_log_gain(prediction, 7.0) == 0.0
    assert chance_above(prediction, 7.0) == 0.0


@pytest.mark.parametrize("best", [1.0, 3.0, 20.0])
def test_gain_counts_no_speedup_above_that_of_a_larger_model(best: float) -> None:
    prediction = replace(fit(MEASURED).predict([Candidate(2, 0.9)])[0], most_speedup=9.0)
    draws = np.random.default_rng(0).normal(
        math.log(prediction.speedup), prediction.log_speedup_std, 400_000
    )

    gain = expected_log_gain(prediction, best)

    simulated = np.maximum(np.minimum(draws, math.log(9.0)) - math.log(best), 0.0).mean()
    assert gain == pytest.approx(simulated, rel=0.02, abs=1e-3)


def test_a_model_less_pruned_than_the_best_is_not_trained_to_see_whether_it_is_faster() -> None:
    # Speeds follow no law, so that little is known of any; but (1, 0.85) is larger than (1, 0.9).
    rough = {Candidate(1, 0.6): 5.0, Candidate(1, 0.9): 6.8, Candidate(2, 0.9): 7.0}
    measured = measure(BASELINE, *rough)
    for candidate, speedup in rough.items():
        throughput = replace(measured[candidate].throughput, speedup=speedup)
        measured[candidate] = replace(measured[candidate], throughput=throughput)
    (smaller,) = fit(measured).predict([Candidate(1, 0.85)])

    assert smaller.most_speedup == 6.8
    assert smaller.log_speedup_std > 0.1
    assert expected_log_gain(smaller, 6.8) == 0.0
    assert chance_above(smaller, 6.8) == 0.0
    assert chance_above(smaller, 5.5) > 0.0


def test_chance_to_beat_falls_as_the_best_candidates_are_measured() -> None:
    optimum = SyntheticEvaluator().optimum(0.02)
    known = MEASURED | measure(optimum)

    before = chance_to_beat(fit(MEASURED), MEASURED, FREE, (0.02,), 0.05)
    after = chance_to_beat(fit(known), known, [c for c in FREE if c != optimum], (0.02,), 0.05)

    assert 0.0 < after < before <= 1.0


def test_nothing_left_to_try_has_no_chance() -> None:
    assert chance_to_beat(fit(MEASURED), MEASURED, [], (0.02,), 0.05) == 0.0


def test_candidate_beyond_a_telling_failure_scores_less() -> None:
    beyond = Candidate(10, 0.95)
    models = (fit(MEASURED), fit(MEASURED, [Candidate(5, 0.9)]))

    before, after = (
        score(rank_by_score(model, MEASURED, [beyond], (0.1,), lambda _: 1.0)[0])
        for model in models
    )

    assert after < before / 2


def test_pending_candidate_lowers_what_slower_ones_may_gain() -> None:
    alone = {p.candidate: score(p) for p in rank()}
    pending = Candidate(2, 0.8)
    rest = [c for c in FREE if c != pending]

    ranked = rank_by_score(fit(MEASURED), MEASURED, rest, (0.02,), lambda _: 1.0, [pending])

    beside = {p.candidate: score(p) for p in ranked}
    assert all(beside[c] <= alone[c] + 1e-12 for c in rest)
    assert beside[Candidate(2, 0.75)] < 0.95 * alone[Candidate(2, 0.75)]


def test_pending_candidate_that_cannot_meet_the_budget_changes_nothing() -> None:
    hopeless = {Candidate(5, 0.8): 0.5}
    model = PerformanceModel.from_measured(MEASURED, {}, DEFAULT_GRID, stopped=hopeless)
    rest = [c for c in FREE if c != Candidate(10, 0.95)]

    orders = [
        rank_by_score(model, MEASURED, rest, (0.02,), lambda _: 1.0, pending)
        for pending in ([], [Candidate(10, 0.95)])
    ]

    assert orders[0] == orders[1]
