"""Speed-ups of whole grids: the law, what deviates from it smoothly, and what deviates roughly."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.errors import UsageError
from autoprumux.records import Candidate
from autoprumux.surrogates.latency import LatencySurrogate
from autoprumux.surrogates.residual import coordinates, correlation
from autoprumux.surrogates.speedups import SpeedupModel

GRID = [Candidate(n, s) for n in (1, 2, 5, 10) for s in (0.0, 0.6, 0.7, 0.8, 0.9, 0.95)]
BASELINE, ASKED = Candidate(1, 0.0), Candidate(5, 0.9)
Z_90 = 1.645


def law(candidate: Candidate) -> float:
    """Log speed-up by the published shares."""
    encoder = 0.10 + 0.90 * (1.0 - candidate.sparsity)
    return math.log(1.01) - math.log(encoder / candidate.num_instances + 0.01)


def table(seed: int, *, rough: float = 0.0, smooth: float = 0.0) -> dict[Candidate, float]:
    """The law with deviations of these standard deviations."""
    rng = np.random.default_rng(seed)
    tilt = smooth * rng.standard_normal()
    return {
        c: law(c) + tilt * math.log2(c.num_instances) / 2 + rough * rng.standard_normal()
        for c in GRID
        if not c.is_baseline
    }


def predicted(values: Mapping[Candidate, float], asked: Candidate) -> tuple[float, float]:
    means, stds = SpeedupModel(values).predict([asked])
    return float(means[0]), float(stds[0])


def some(values: Mapping[Candidate, float], number: int, seed: int = 0) -> dict[Candidate, float]:
    chosen = np.random.default_rng(seed).permutation(len(values))[:number]
    return {list(values)[k]: list(values.values())[k] for k in chosen}


def test_before_any_measurement_the_published_law_holds() -> None:
    means, stds = SpeedupModel({}).predict(GRID)

    assert means == pytest.approx([law(c) for c in GRID], abs=1e-9)
    assert stds[0] == 0.0
    assert np.all(stds[1:] > 0.1)


def test_the_baseline_is_exactly_one_whatever_is_measured() -> None:
    assert predicted(table(0, rough=0.3), BASELINE) == (0.0, 0.0)
    assert predicted({BASELINE: 0.3, **table(0)}, BASELINE) == (0.0, 0.0)


def test_a_measured_baseline_tells_nothing() -> None:
    values = some(table(0), 4)

    assert predicted({BASELINE: 0.3, **values}, ASKED) == predicted(values, ASKED)


@pytest.mark.parametrize("rough", [0.0, 0.3])
def test_a_table_is_taken_to_be_as_rough_as_it_is(rough: float) -> None:
    values = table(1, rough=rough)
    del values[ASKED]

    std = predicted(values, ASKED)[1]

    assert 0.5 * max(rough, 0.02) < std < 2.0 * max(rough, 0.02)


@pytest.mark.parametrize("rough", [0.02, 0.1, 0.25])
def test_intervals_hold_what_they_promise_once_the_roughness_shows(rough: float) -> None:
    inside, num = 0, 0
    for seed in range(30):
        values = table(seed, rough=rough)
        known = some(values, 12, seed)
        rest = [c for c in values if c not in known]
        means, stds = SpeedupModel(known).predict(rest)
        errors = np.array([values[c] for c in rest]) - means
        inside += int(np.sum(np.abs(errors) <= Z_90 * stds))
        num += len(rest)

    assert 0.85 < inside / num < 0.96  # 330 values: 0.90 give or take two deviations, and a bias


def test_what_deviates_smoothly_is_learnt_and_what_is_rough_is_not_repeated() -> None:
    neighbours = [Candidate(5, 0.8), Candidate(5, 0.95)]
    smooth = {c: law(c) + 0.3 * math.log2(c.num_instances) for c in GRID if c != ASKED}
    spike = {c: law(c) + 0.3 * (c == neighbours[0]) for c in GRID if c != ASKED}

    assert predicted(smooth, ASKED)[0] - law(ASKED) == pytest.approx(
        0.3 * math.log2(ASKED.num_instances), abs=0.1
    )
    assert predicted(spike, ASKED)[0] - law(ASKED) < 0.12


def test_what_another_task_tells_counts_less_the_further_it_may_be_off() -> None:
    told = {ASKED: law(ASKED) + 0.5}

    means, stds = zip(
        *(
            (float(mean[0]), float(std[0]))
            for mean, std in (
                SpeedupModel(told, {ASKED: error}).predict([ASKED]) for error in (0.0, 0.2, 2.0)
            )
        ),
        strict=True,
    )

    assert means[0] > means[1] > means[2] > law(ASKED)
    assert stds[0] < stds[1] < stds[2]


@settings(deadline=None, max_examples=30)
@given(number=st.integers(0, 20), seed=st.integers(0, 100), rough=st.sampled_from([0.0, 0.1, 0.5]))
def test_predictions_do_not_depend_on_who_else_is_asked_for_or_on_the_order(
    number: int, seed: int, rough: float
) -> None:
    known = some(table(seed, rough=rough), number, seed)
    means, stds = SpeedupModel(known).predict(GRID)
    backwards = SpeedupModel(dict(reversed(known.items()))).predict(GRID)

    assert np.all(np.isfinite(means))
    assert np.all(stds >= 0.0)
    for place in (0, 7, 23):
        alone = predicted(known, GRID[place])
        assert alone == pytest.approx((means[place], stds[place]), abs=1e-9)
    assert means == pytest.approx(backwards[0], abs=1e-6)
    assert stds == pytest.approx(backwards[1], abs=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(UsageError):
        SpeedupModel({ASKED: value})


def test_a_hundred_equal_points_are_no_trouble() -> None:
    many = {
        Candidate(n, s / 100): law(Candidate(n, s / 100)) for n in range(1, 11) for s in range(10)
    }
    mean, std = predicted(many, Candidate(3, 0.055))

    assert mean == pytest.approx(law(Candidate(3, 0.055)), abs=0.02)
    assert 0.0 < std < 0.05


@pytest.mark.parametrize("error", [0.0, 0.05], ids=["one basis", "a basis for each share"])
def test_the_mixture_is_that_of_gaussian_processes_fitted_one_by_one(error: float) -> None:
    points = [Candidate(2, 0.6), Candidate(1, 0.9), Candidate(10, 0.0), Candidate(5, 0.95)]
    values = dict(zip(points, [1.1, 1.6, 2.2, 3.9], strict=True))
    errors = {points[1]: error, points[2]: 2.0 * error}
    asked = [Candidate(2, 0.8), Candidate(10, 0.95)]
    law = LatencySurrogate()
    law.fit(points, list(values.values()))
    (fitted, there), (means, here) = law.linear(points), law.linear(asked)
    left = np.array(list(values.values())) - fitted
    noise = np.array([errors.get(c, 0.0) for c in points]) ** 2 + 0.01**2
    place, at, origin = map(coordinates, (points, asked, [Candidate(1, 0.0)]))

    def smooth(one, other):
        beyond = correlation(one, origin) * correlation(origin, other)
        return correlation(one, other) - beyond

    logs, expected, spread = [], [], []
    for rho in (0.0, 0.5):
        for std in (0.02, 0.05, 0.10, 0.20, 0.40):
            gram = std**2 * (1 - rho) * smooth(place, place)
            gram += there @ law.prior_covariance @ there.T
            gram += np.diag(noise + std**2 * rho)
            cross = std**2 * (1 - rho) * smooth(at, place) + here @ law.prior_covariance @ there.T
            own = std**2 * ((1 - rho) * np.diag(smooth(at, at)) + rho)
            own = own + np.diag(here @ law.prior_covariance @ here.T)
            logs.append(-0.5 * (np.linalg.slogdet(gram)[1] + left @ np.linalg.solve(gram, left)))
            expected.append(means + cross @ np.linalg.solve(gram, left))
            told = np.diag(cross @ np.linalg.solve(gram, cross.T))
            spread.append(own - told + 0.01**2)
    shares = np.exp(np.array(logs) - max(logs))
    shares /= shares.sum()
    mean = shares @ np.array(expected)
    variance = shares @ (np.array(spread) + (np.array(expected) - mean) ** 2)

    found = SpeedupModel(values, errors).predict(asked)

    assert found[0] == pytest.approx(mean, abs=1e-10)
    assert found[1] == pytest.approx(np.sqrt(variance), abs=1e-10)
