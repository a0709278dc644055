import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.records import Candidate
from autoprumux.surrogates.structured import StructuredSurrogate

WIDTHS = (1, 2, 5, 10)
SPARSITIES = (0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
GRID = [Candidate(n, s) for n in WIDTHS for s in SPARSITIES]
MEASURED = [Candidate(2, 0.0), Candidate(1, 0.9), Candidate(5, 0.8)]
losses = st.lists(st.floats(0.0, 0.1), min_size=3, max_size=3)


quick = settings(deadline=None, max_examples=40)
"""Every example fits surrogates; a busy machine may take long over one."""


def fitted(candidates: list[Candidate], values: list[float]) -> StructuredSurrogate:
    surrogate = StructuredSurrogate(noise_std=0.005)
    surrogate.fit(candidates, values)
    return surrogate


def predicted(surrogate: StructuredSurrogate, candidate: Candidate) -> tuple[float, float]:
    (prediction,) = surrogate.predict([candidate])
    assert prediction is not None
    return prediction.mean, prediction.std


@pytest.mark.parametrize(("width", "points"), [(2, 2.0), (5, 5.0), (10, 8.0)])
def test_without_measurements_the_published_losses_hold(width: int, points: float) -> None:
    mean, std = predicted(fitted([], []), Candidate(width, 0.0))

    assert 100.0 * mean == pytest.approx(points, abs=0.5)
    assert std > 0.5 * mean


def test_without_measurements_losses_rise_with_width_and_sparsity() -> None:
    surrogate = fitted([], [])
    table = {c: predicted(surrogate, c)[0] for c in GRID}

    for small in GRID:
        for large in GRID:
            if small.num_instances <= large.num_instances and small.sparsity <= large.sparsity:
                assert table[small] <= table[large] + 1e-12


def test_without_measurements_the_last_step_of_sparsity_costs_most() -> None:
    surrogate = fitted([], [])
    row = [predicted(surrogate, Candidate(1, s))[0] for s in SPARSITIES[1:]]
    steps = [after - before for before, after in pairwise(row)]

    assert steps == sorted(steps)
    assert steps[-1] > 0.35 * row[-1]


@quick
@given(values=losses)
def test_the_trend_passes_through_measured_losses(values: list[float]) -> None:
    surrogate = fitted(MEASURED, values)

    found = [predicted(surrogate, c)[0] for c in MEASURED]

    assert found == pytest.approx(values, abs=1e-7)


@quick
@given(values=losses)
def test_the_baseline_loses_nothing(values: list[float]) -> None:
    mean, std = predicted(fitted(MEASURED, values), Candidate(1, 0.0))

    assert mean == pytest.approx(0.0, abs=1e-7)
    assert std < 0.006


def test_the_deviation_grows_with_the_distance_to_the_measured_points() -> None:
    surrogate = fitted([Candidate(2, 0.6)], [0.03])
    row = [Candidate(2, s) for s in (0.6, 0.7, 0.8, 0.9, 0.95)]

    stds = [predicted(surrogate, c)[1] for c in row]

    assert stds == sorted(stds)
    assert stds[-1] > 3.0 * stds[0]


def test_a_step_of_sparsity_counts_more_near_the_end() -> None:
    surrogate = fitted([Candidate(1, 0.6), Candidate(1, 0.9)], [0.003, 0.03])

    after_60, after_90 = (predicted(surrogate, Candidate(1, s))[1] for s in (0.65, 0.95))

    assert after_90 > 2.0 * after_60


def test_a_lossy_task_raises_the_losses_everywhere() -> None:
    mild = fitted([Candidate(2, 0.6)], [0.01])
    harsh = fitted([Candidate(2, 0.6)], [0.10])

    for candidate in (Candidate(1, 0.8), Candidate(5, 0.0), Candidate(10, 0.95)):
        assert predicted(harsh, candidate)[0] > predicted(mild, candidate)[0]


def test_the_noise_of_the_baseline_is_in_every_loss_but_its_own() -> None:
    quiet, noisy = StructuredSurrogate(noise_std=0.0), StructuredSurrogate(noise_std=0.05)

    assert predicted(noisy, Candidate(1, 0.0))[1] == pytest.approx(
        predicted(quiet, Candidate(1, 0.0))[1], abs=1e-4
    )
    near = Candidate(1, 0.05)
    difference = predicted(noisy, near)[1] ** 2 - predicted(quiet, near)[1] ** 2
    assert difference > 0.5 * (0.6 * 0.05) ** 2


def test_losses_as_expected_leave_less_doubt_than_surprising_ones() -> None:
    prior = fitted([], [])
    expected = [predicted(prior, c)[0] for c in MEASURED]
    surprising = [expected[0] + 0.2, expected[1], expected[2] - 0.05]
    far = Candidate(10, 0.95)

    certain, doubtful = fitted(MEASURED, expected), fitted(MEASURED, surprising)

    assert predicted(certain, far)[1] < 0.8 * predicted(doubtful, far)[1]


@pytest.mark.parametrize("num_measured", [2, 5, 8])
def test_intervals_hold_about_as_often_as_they_say(num_measured: int) -> None:
    order = [
        *(Candidate(1, 0.8), Candidate(5, 0.0), Candidate(2, 0.7), Candidate(1, 0.95)),
        *(Candidate(10, 0.6), Candidate(2, 0.9), Candidate(5, 0.8), Candidate(1, 0.6)),
    ]
    known = order[:num_measured]
    rest = [c for c in GRID if c not in known and not c.is_baseline]
    held = []
    for seed in range(60):
        losses = draw_losses(np.random.default_rng(seed))
        surrogate = fitted(known, [losses[c] for c in known])
        for candidate, found in zip(rest, surrogate.predict(rest), strict=True):
            assert found is not None
            reach = 1.645 * math.hypot(found.std, NOISE)
            held.append(abs(losses[candidate] - found.mean) <= reach)

    assert 0.84 < np.mean(held) < 0.96


NOISE = 0.005


def draw_losses(rng: np.random.Generator) -> dict[Candidate, float]:
    """Additive losses of the published size, rough and measured with noise."""
    width, sparsity = 0.09 * np.exp(0.6 * rng.standard_normal(2)) * [1.0, 0.7]
    powers, interaction = rng.uniform([0.8, 1.5], [1.8, 4.5]), rng.uniform(0.0, 0.06)
    error = NOISE * rng.standard_normal()

    def loss(candidate: Candidate) -> float:
        x = math.log(candidate.num_instances) / math.log(10.0)
        c = math.log(1.0 - candidate.sparsity) / math.log(0.05)
        smooth = width * x ** powers[0] + sparsity * c ** powers[1] + interaction * x * c
        return float(smooth + math.hypot(NOISE, 0.0025) * rng.standard_normal() + error)

    return {candidate: loss(candidate) for candidate in GRID}


def test_a_collapse_says_little_about_small_losses() -> None:
    # 40 points at the far corner are no reason to expect more than a few at its other end.
    collapsed = fitted([Candidate(10, 0.95)], [0.40])

    assert predicted(collapsed, Candidate(2, 0.0))[0] < 0.05


@quick
@given(
    table=st.dictionaries(
        st.sampled_from([c for c in GRID if not c.is_baseline]), st.floats(-0.02, 0.3), max_size=8
    )
)
def test_expected_losses_of_unmeasured_candidates_never_fall(
    table: dict[Candidate, float],
) -> None:
    surrogate = fitted(list(table), list(table.values()))
    rest = [c for c in GRID if c not in table and not c.is_baseline]
    found = {c: p.mean for c, p in zip(rest, surrogate.predict(rest), strict=True) if p}

    assert min(found.values()) >= min([0.0, *table.values()])
    for small in found:
        assert predicted(surrogate, small)[0] == pytest.approx(found[small], abs=1e-12)
        for large in found:
            if small.num_instances <= large.num_instances and small.sparsity <= large.sparsity:
                assert found[small] <= found[large] + 1e-12


def test_more_noise_of_one_measurement_widens_what_is_expected_beside_it() -> None:
    beside = Candidate(2, 0.65)
    quiet = fitted([Candidate(2, 0.6)], [0.03])
    noisy = StructuredSurrogate(noise_std=0.005, variances={Candidate(2, 0.6): 0.02**2})
    noisy.fit([Candidate(2, 0.6)], [0.03])

    assert predicted(noisy, beside)[1] > 1.2 * predicted(quiet, beside)[1]


def test_candidates_that_no_measured_points_surround_are_flagged() -> None:
    inside, outside = fitted([Candidate(1, 0.9)], [0.03]).predict(
        [Candidate(1, 0.6), Candidate(2, 0.6)]
    )

    assert (inside.is_extrapolated, outside.is_extrapolated) == (False, True)
