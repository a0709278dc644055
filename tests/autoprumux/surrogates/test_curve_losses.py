"""The ensemble of curves: what it learns from losses, from collapse and from early stops."""

import math
from dataclasses import replace

import numpy as np
import pytest

from autoprumux.records import Candidate
from autoprumux.surrogates.curve_ensemble import REST_SIZES, CurveEnsemble, Points
from autoprumux.surrogates.curve_losses import CurveLosses
from autoprumux.surrogates.curves import LossCurves, places
from autoprumux.surrogates.forecasts import LossForecasts, normal_cdf
from autoprumux.surrogates.loss_columns import LossColumns
from autoprumux.surrogates.noise import expected_variances
from autoprumux.surrogates.residual import coordinates, correlation

WIDE, PRUNED, BOTH = Candidate(10, 0.0), Candidate(1, 0.95), Candidate(10, 0.95)
BETWEEN = Candidate(1, 0.9)


def fitted(
    losses: dict[Candidate, float],
    least: dict[Candidate, float] | None = None,
    num_examples: int = 4000,
) -> CurveLosses:
    variances = expected_variances([0.9 - loss for loss in losses.values()], num_examples)
    (shared,) = expected_variances([0.9], num_examples)
    known = dict(zip(losses, variances.tolist(), strict=True))
    return CurveLosses(losses, least or {}, variances=known, shared=float(shared))


def mean_and_std(candidate: Candidate, model: CurveLosses) -> tuple[float, float]:
    forecasts = model.predict([candidate])
    return float(forecasts.mean[0]), float(forecasts.std[0])


def within(candidate: Candidate, losses: dict[Candidate, float], budget: float) -> float:
    forecasts = fitted(losses).predict([candidate])
    chances = forecasts.chances_at_most(np.array([budget]), np.zeros(1))
    return float(forecasts.chances_trained[0] * chances[0])


def test_before_any_measurement_the_published_losses_are_expected() -> None:
    mean, std = mean_and_std(WIDE, fitted({}))

    assert 0.06 < mean < 0.13
    assert std > 0.04


def test_a_measured_loss_is_learnt_where_it_was_measured_and_beside_it() -> None:
    beside = Candidate(5, 0.0)
    before, after = mean_and_std(beside, fitted({})), mean_and_std(beside, fitted({WIDE: 0.12}))

    assert mean_and_std(WIDE, fitted({WIDE: 0.12}))[0] == pytest.approx(0.12, abs=0.01)
    assert after[0] > before[0]
    assert after[1] < 0.7 * before[1]


def test_losses_of_both_parts_add() -> None:
    mean, _ = mean_and_std(BOTH, fitted({WIDE: 0.05, PRUNED: 0.04}))

    assert 0.07 < mean < 0.14


def test_between_no_loss_and_a_large_one_either_is_likely() -> None:
    # A knee: recorded models of qnli lose nothing up to (1, 0.90) and 12 points at (1, 0.95).
    known = {Candidate(1, 0.85): -0.004, PRUNED: 0.117, WIDE: 0.143}

    assert 0.2 < within(BETWEEN, known, 0.02) < 0.9
    assert within(BETWEEN, known, 0.11) > 0.9


def test_few_examples_teach_less() -> None:
    _, many = mean_and_std(Candidate(5, 0.0), fitted({WIDE: 0.12}))
    _, few = mean_and_std(Candidate(5, 0.0), fitted({WIDE: 0.12}, num_examples=100))

    assert few > 1.1 * many


def test_collapse_makes_larger_candidates_doubtful_and_no_smaller_ones() -> None:
    model = fitted({BOTH: 0.45, Candidate(10, 0.9): 0.44})

    forecasts = model.predict([Candidate(10, 0.93), Candidate(2, 0.6)])

    assert forecasts.chances_trained[0] < 0.6
    assert forecasts.chances_trained[1] > 0.99
    assert forecasts.mean[1] < 0.06


def test_how_bad_a_collapse_is_says_nothing() -> None:
    assert mean_and_std(WIDE, fitted({BOTH: 0.3})) == mean_and_std(WIDE, fitted({BOTH: 0.5}))


def test_a_candidate_stopped_early_loses_at_least_what_it_had_lost() -> None:
    candidate = Candidate(10, 0.6)
    plain, _ = mean_and_std(candidate, fitted({}))

    stopped, _ = mean_and_std(candidate, fitted({}, least={candidate: 0.18}))

    assert stopped > plain + 0.03


def test_impossible_measurements_still_yield_a_forecast() -> None:
    # Larger models measured far better than smaller ones: no curve does that.
    model = fitted({Candidate(2, 0.0): 0.19, BOTH: -0.05, WIDE: 0.0})

    assert np.isfinite(mean_and_std(Candidate(5, 0.6), model)).all()


def test_with_one_curve_the_ensemble_is_a_gaussian_process_around_it() -> None:
    curves = LossCurves.published()[np.array([0])]
    at_point = float(curves.losses([WIDE])[0, 0])
    points = Points([WIDE], np.array([at_point + 0.03]), np.array([1e-6]), 0.0)

    ensemble = CurveEnsemble(LossColumns(curves), points, np.zeros(1))
    means, stds = ensemble.predict([WIDE, Candidate(1, 0.0)])

    assert ensemble.weights.sum() == pytest.approx(1.0)
    assert ensemble.weights @ means[:, 0] == pytest.approx(at_point + 0.03, abs=0.003)
    assert means[:, 1] == pytest.approx(np.zeros(len(means)), abs=1e-9)
    assert (stds[:, 0] < 0.006).all()


def test_the_members_are_those_of_matrices_inverted_one_by_one() -> None:
    curves = LossCurves.published()
    known = [WIDE, PRUNED, Candidate(2, 0.6)]
    points = Points(known, np.array([0.11, 0.05, 0.03]), np.array([2e-5, 1e-5, 3e-5]), 2e-5)
    ensemble = CurveEnsemble(LossColumns(curves), points, np.zeros(len(curves)))
    means, stds = ensemble.predict([BETWEEN])
    x, c = places([*known, BETWEEN])
    reach = 0.5 * (x + c)
    correlated = correlation(*[coordinates([*known, BETWEEN])] * 2)
    errors = []
    for size in REST_SIZES:
        rest = size**2 * np.outer(reach, reach) * correlated + points.shared
        gram = rest[:3, :3] + np.diag(points.noise)
        weights = np.linalg.solve(gram, rest[:3, 3])
        variance = rest[3, 3] - rest[3, :3] @ weights
        left = points.losses - ensemble.members.losses(known)
        moved = ensemble.members.losses([BETWEEN])[:, 0] + left @ weights
        errors.append(np.maximum(abs(means[:, 0] - moved), abs(stds[:, 0] - math.sqrt(variance))))

    assert np.min(errors, axis=0) == pytest.approx(0.0, abs=1e-10)  # each has one of the sizes


def mixture(weights: list[float], means: list[float], stds: list[float]) -> LossForecasts:
    columns = [np.array(values).reshape(-1, 1) for values in (weights, means, stds)]
    return LossForecasts(
        weights=columns[0], means=columns[1], stds=columns[2], chances_trained=np.ones(1)
    )


def test_a_mixture_of_one_is_normal() -> None:
    one = mixture([1.0], [0.02], [0.03])

    assert one.mean == pytest.approx([0.02])
    assert one.std == pytest.approx([0.03])
    chances = one.chances_at_most(np.array([0.05]), np.array([0.04]))
    assert chances == pytest.approx([normal_cdf(0.03, 0.05)], abs=1e-6)


def test_a_mixture_has_the_moments_and_chances_of_its_draws() -> None:
    weights, means, stds = [0.3, 0.7], [0.0, 0.1], [0.01, 0.03]
    rng = np.random.default_rng(0)
    members = rng.choice(2, 200_000, p=weights)
    draws = rng.normal(np.array(means)[members], np.array(stds)[members])

    found = mixture(weights, means, stds)

    assert found.mean == pytest.approx([draws.mean()], abs=5e-4)
    assert found.std == pytest.approx([draws.std()], abs=5e-4)
    for loss in (-math.inf, -0.01, 0.0, 0.03, 0.1, 0.2, math.inf):
        chances = found.chances_at_most(np.array([loss]), np.zeros(1))
        assert chances == pytest.approx([(draws <= loss).mean()], abs=4e-3)


def test_intervals_may_be_narrower_than_those_of_a_normal() -> None:
    wide = mixture([0.5, 0.5], [0.0, 0.1], [0.01, 0.01])

    assert replace(wide, interval_share=0.8).std == pytest.approx(0.8 * wide.std)
