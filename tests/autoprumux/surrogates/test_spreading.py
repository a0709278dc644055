import numpy as np

from autoprumux.records import Candidate
from autoprumux.surrogates.spreading import MAX_POINTS, spread_out

MANY = [Candidate(n, round(0.95 * k / 49, 4)) for n in range(1, 21) for k in range(50)]


def test_few_points_are_all_kept_in_their_order() -> None:
    few = MANY[MAX_POINTS - 1 :: -1]

    assert spread_out(few) == few


def test_of_many_points_the_baseline_and_the_corners_are_kept() -> None:
    chosen = spread_out(MANY)

    assert len(set(chosen)) == MAX_POINTS
    assert chosen[0] == Candidate(1, 0.0)
    assert {Candidate(1, 0.95), Candidate(20, 0.0), Candidate(20, 0.95)} <= set(chosen)


def test_what_is_kept_does_not_depend_on_the_order() -> None:
    order = np.random.default_rng(0).permutation(len(MANY))

    assert spread_out([MANY[k] for k in order]) == spread_out(MANY)
