"""What every surrogate promises."""

import math

import pytest

from autoprumux.errors import UsageError
from autoprumux.records import Candidate
from autoprumux.surrogates.base import Surrogate
from autoprumux.surrogates.bilinear import BilinearSurrogate
from autoprumux.surrogates.latency import LatencySurrogate
from autoprumux.surrogates.structured import StructuredSurrogate
from autoprumux.surrogates.table import TableSurrogate

POINTS = [Candidate(1, 0.6), Candidate(1, 0.9), Candidate(5, 0.6), Candidate(5, 0.9)]
VALUES = [0.01, 0.04, 0.06, 0.1]
INSIDE = Candidate(2, 0.8)


def make_structured() -> StructuredSurrogate:
    return StructuredSurrogate(noise_std=0.005)


every_surrogate = pytest.mark.parametrize(
    "make", [BilinearSurrogate, TableSurrogate, LatencySurrogate, make_structured]
)


@every_surrogate
def test_predictions_inside_the_points_are_finite_with_a_deviation(make) -> None:
    surrogate: Surrogate = make()
    surrogate.fit(POINTS, VALUES)

    (prediction,) = surrogate.predict([INSIDE])

    assert prediction is not None
    assert math.isfinite(prediction.mean)
    assert 0.0 < prediction.std < math.inf
    assert not prediction.is_extrapolated


@every_surrogate
def test_predictions_come_in_the_order_of_the_candidates(make) -> None:
    surrogate: Surrogate = make()
    surrogate.fit(POINTS, VALUES)

    together = surrogate.predict([POINTS[3], INSIDE, POINTS[0]])

    alone = [surrogate.predict([c])[0] for c in (POINTS[3], INSIDE, POINTS[0])]
    for left, right in zip(together, alone, strict=True):
        assert left is not None
        assert right is not None
        assert left.mean == pytest.approx(right.mean, abs=1e-12)
        assert left.std == pytest.approx(right.std, abs=1e-12)


@every_surrogate
def test_fitting_again_forgets_the_earlier_points(make) -> None:
    refitted, fresh = make(), make()
    refitted.fit(POINTS, [10.0 * v for v in VALUES])
    refitted.fit(POINTS, VALUES)
    fresh.fit(POINTS, VALUES)

    assert refitted.predict([INSIDE]) == fresh.predict([INSIDE])


@every_surrogate
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(make, bad: float) -> None:
    with pytest.raises(UsageError, match=r"The value of N=5 s=0\.90 must be finite"):
        make().fit(POINTS, [*VALUES[:3], bad])


@every_surrogate
def test_a_candidate_given_twice_is_refused(make) -> None:
    with pytest.raises(UsageError, match="Every candidate must occur once"):
        make().fit([POINTS[0], POINTS[0]], [0.1, 0.2])


@every_surrogate
def test_as_many_values_as_candidates_are_needed(make) -> None:
    with pytest.raises(UsageError, match="Got 4 candidates but 3 values"):
        make().fit(POINTS, VALUES[:3])
