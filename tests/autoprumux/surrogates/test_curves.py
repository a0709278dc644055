"""Curves that losses may follow: anchored at the baseline, monotone, as wide as is published."""

import math

import numpy as np
import pytest

from autoprumux.records import Candidate
from autoprumux.surrogates.curves import NUM_CURVES, LossCurves, places

GRID = [Candidate(n, s) for n in (1, 2, 5, 10) for s in (0.0, 0.6, 0.8, 0.9, 0.95)]
PUBLISHED = LossCurves.published()


def curve(**parameters: float) -> LossCurves:
    plain = {
        "log_m": math.log(0.08),
        "u": 1.0,
        "log_p": math.log(0.05),
        "v": 3.0,
        "q": 0.0,
        "h": 0.0,
        "k": math.inf,
        "t": math.inf,
        "r": 1.0,
    }
    return LossCurves(**{name: np.array([v]) for name, v in {**plain, **parameters}.items()})


def loss(candidate: Candidate, **parameters: float) -> float:
    return float(curve(**parameters).losses([candidate])[0, 0])


def test_places_are_1_at_the_far_corner_and_0_at_the_baseline() -> None:
    x, c = places([Candidate(1, 0.0), Candidate(10, 0.95)])

    assert x == pytest.approx([0.0, 1.0])
    assert c == pytest.approx([0.0, 1.0])


def test_a_curve_is_the_sum_of_its_parts() -> None:
    corner = Candidate(10, 0.95)

    assert loss(Candidate(10, 0.0)) == pytest.approx(0.08)
    assert loss(Candidate(1, 0.95)) == pytest.approx(0.05)
    assert loss(corner) == pytest.approx(0.13)
    assert loss(corner, q=0.02) == pytest.approx(0.15)
    assert loss(corner, h=0.03) == pytest.approx(0.10)
    assert loss(corner, k=0.06) == pytest.approx(0.06)


def test_a_bent_curve_lies_between_the_larger_part_and_the_sum() -> None:
    assert loss(Candidate(10, 0.95), r=2.0) == pytest.approx(math.hypot(0.08, 0.05))
    assert loss(Candidate(10, 0.0), r=4.0) == pytest.approx(0.08)
    assert loss(Candidate(1, 0.0), r=2.0) == 0.0


def test_collapse_begins_beyond_its_border() -> None:
    border = curve(t=1.2)

    assert border.collapses(GRID[-1:]).all()
    assert not border.collapses([Candidate(1, 0.95), Candidate(10, 0.0)]).any()


def test_published_curves_lose_nothing_at_the_baseline_and_never_fall() -> None:
    losses = PUBLISHED.losses(GRID)

    assert losses.shape == (NUM_CURVES, len(GRID))
    assert (losses[:, 0] == 0.0).all()
    for small, one in enumerate(GRID):
        for large, other in enumerate(GRID):
            if one.num_instances <= other.num_instances and one.sparsity <= other.sparsity:
                assert (losses[:, small] <= losses[:, large] + 1e-12).all()


@pytest.mark.parametrize(
    ("candidate", "published"),
    [
        (Candidate(2, 0.0), 0.02),
        (Candidate(5, 0.0), 0.05),
        (Candidate(10, 0.0), 0.08),
        (Candidate(1, 0.95), 0.045),
    ],
    ids=str,
)
def test_published_losses_are_likely(candidate: Candidate, published: float) -> None:
    losses = PUBLISHED.losses([candidate])[:, 0]

    assert np.quantile(losses, 0.25) < published < np.quantile(losses, 0.75)


def test_the_same_curves_are_drawn_every_time() -> None:
    LossCurves.published.cache_clear()

    again = LossCurves.published()

    assert (again.losses(GRID) == PUBLISHED.losses(GRID)).all()


def test_chosen_curves_keep_their_parameters() -> None:
    chosen = np.array([5, 3, 3])

    assert (PUBLISHED[chosen].losses(GRID) == PUBLISHED.losses(GRID)[chosen]).all()
    assert len(PUBLISHED[chosen]) == 3
