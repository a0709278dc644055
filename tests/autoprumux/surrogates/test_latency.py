import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.records import Candidate
from autoprumux.surrogates.latency import LatencySurrogate

GRID = [Candidate(n, s) for n in (1, 2, 5, 10) for s in (0.0, 0.6, 0.8, 0.95)]
BASELINE = Candidate(1, 0.0)
SHARES = (0.2, 0.7, 0.1)
shares = st.tuples(st.floats(0.02, 0.5), st.floats(0.3, 1.0), st.floats(0.001, 0.3))


quick = settings(deadline=None, max_examples=40)
"""Every example fits surrogates; a busy machine may take long over one."""


def log_speedup(candidate: Candidate, parts: tuple[float, float, float]) -> float:
    c0, c1, b = parts
    encoder = c0 + c1 * (1.0 - candidate.sparsity)
    return math.log(c0 + c1 + b) - math.log(encoder / candidate.num_instances + b)


def fitted(
    candidates: list[Candidate], parts: tuple[float, float, float] = SHARES
) -> LatencySurrogate:
    surrogate = LatencySurrogate()
    surrogate.fit(candidates, [log_speedup(c, parts) for c in candidates])
    return surrogate


def predicted(surrogate: LatencySurrogate, candidate: Candidate) -> tuple[float, float]:
    (prediction,) = surrogate.predict([candidate])
    assert prediction is not None
    return prediction.mean, prediction.std


def test_the_baseline_is_exactly_one_before_and_after_measurements() -> None:
    for surrogate in (LatencySurrogate(), fitted(GRID[1:])):
        assert predicted(surrogate, BASELINE) == (0.0, 0.0)


def test_without_measurements_the_published_law_holds() -> None:
    # Points of BERT-base (reference-spec, section 6.1): 2.0 at N = 2, 4.8 at N = 5, 9.6 at N = 10.
    published = {2: 2.0, 5: 4.8, 10: 9.6}

    for width, speedup in published.items():
        mean, _ = predicted(LatencySurrogate(), Candidate(width, 0.0))
        assert math.exp(mean) == pytest.approx(speedup, rel=0.05)


@quick
@given(parts=shares)
def test_speedup_never_falls_with_width_or_sparsity(parts: tuple[float, float, float]) -> None:
    surrogate = fitted([Candidate(2, 0.0), Candidate(1, 0.6), Candidate(5, 0.8)], parts)
    means = {c: predicted(surrogate, c)[0] for c in GRID}

    for small in GRID:
        for large in GRID:
            if small.num_instances <= large.num_instances and small.sparsity <= large.sparsity:
                assert means[small] <= means[large] + 1e-12


@quick
@given(parts=shares)
def test_shares_are_positive_and_sum_to_one(parts: tuple[float, float, float]) -> None:
    found = fitted(GRID[1:], parts).shares

    assert min(found) > 0.0
    assert sum(found) == pytest.approx(1.0, abs=1e-12)


@quick
@given(parts=shares)
def test_a_table_that_follows_the_law_is_learnt(parts: tuple[float, float, float]) -> None:
    surrogate = fitted(GRID[1:], parts)

    for candidate in GRID[1:]:
        # The ridge keeps a small pull towards the prior.
        assert predicted(surrogate, candidate)[0] == pytest.approx(
            log_speedup(candidate, parts), abs=0.06
        )


def test_the_deviation_falls_as_measurements_come() -> None:
    order = [Candidate(2, 0.0), Candidate(1, 0.95), Candidate(10, 0.6), Candidate(5, 0.8)]
    asked = Candidate(10, 0.95)

    stds = [
        predicted(fitted(order[:num], (0.1, 0.9, 0.01)), asked)[1] for num in range(len(order) + 1)
    ]

    assert stds == sorted(stds, reverse=True)
    assert stds[-1] < 0.5 * stds[0]


def test_measurements_that_surprise_still_halve_the_deviation_in_the_end() -> None:
    surprising = fitted([Candidate(2, 0.0), Candidate(1, 0.95), Candidate(10, 0.6)], SHARES)
    asked = Candidate(10, 0.95)

    assert predicted(surprising, asked)[1] < 0.5 * predicted(LatencySurrogate(), asked)[1]


def test_one_measurement_already_moves_the_prediction_towards_it() -> None:
    slow = LatencySurrogate()
    slow.fit([Candidate(5, 0.0)], [math.log(2.5)])

    before = predicted(LatencySurrogate(), Candidate(10, 0.0))[0]
    after = predicted(slow, Candidate(10, 0.0))[0]

    assert math.exp(predicted(slow, Candidate(5, 0.0))[0]) == pytest.approx(2.5, rel=0.1)
    assert after < before


@pytest.mark.parametrize("speedup", [1e-3, 1.0, 500.0])
def test_absurd_measurements_still_give_a_law(speedup: float) -> None:
    surrogate = LatencySurrogate()
    surrogate.fit([Candidate(2, 0.6)], [math.log(speedup)])

    mean, std = predicted(surrogate, Candidate(10, 0.95))

    assert math.isfinite(mean)
    assert std > 0.0


def test_a_device_whose_time_goes_with_a_power_of_the_weights_is_learnt() -> None:
    power = {c: 0.7 * -math.log(1.0 - c.sparsity) + math.log(c.num_instances) for c in GRID[1:]}
    surrogate = LatencySurrogate()
    surrogate.fit(list(power), list(power.values()))

    for candidate, value in power.items():
        assert predicted(surrogate, candidate)[0] == pytest.approx(value, abs=0.1)


def test_intervals_follow_how_well_the_law_holds() -> None:
    exact = {c: log_speedup(c, SHARES) for c in GRID[1:]}
    rough = {c: value + 0.2 * (-1) ** k for k, (c, value) in enumerate(exact.items())}
    asked = Candidate(5, 0.9)
    narrow, wide = LatencySurrogate(), LatencySurrogate()
    narrow.fit(list(exact), list(exact.values()))
    wide.fit(list(rough), list(rough.values()))

    assert predicted(narrow, asked)[1] < 0.06
    assert predicted(wide, asked)[1] > 0.15


def test_candidates_that_no_measured_points_surround_are_flagged() -> None:
    surrogate = LatencySurrogate()
    surrogate.fit([Candidate(1, 0.9)], [1.5])

    inside, outside = surrogate.predict([Candidate(1, 0.6), Candidate(2, 0.6)])

    assert (inside.is_extrapolated, outside.is_extrapolated) == (False, True)
