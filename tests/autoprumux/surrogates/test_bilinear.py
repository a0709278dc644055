import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.records import Candidate
from autoprumux.surrogates.bilinear import BilinearSurrogate, leave_one_out

WIDTHS = (1, 2, 5, 10)
SPARSITIES = (0.6, 0.7, 0.8, 0.9, 0.95)
GRID = [Candidate(n, s) for n in WIDTHS for s in SPARSITIES]
EXACT = 1e-12

coefficients = st.tuples(*[st.floats(-1.0, 1.0)] * 4)
values_on_grid = st.lists(st.floats(0.0, 1.0), min_size=len(GRID), max_size=len(GRID))
candidates_inside = st.builds(Candidate, st.integers(1, 10), st.floats(0.6, 0.95))


def bilinear(k: tuple[float, ...], candidate: Candidate) -> float:
    n, s = candidate.num_instances, candidate.sparsity
    return k[0] + k[1] * n + k[2] * s + k[3] * n * s


def fitted(points: dict[Candidate, float], *, extrapolate: bool = False) -> BilinearSurrogate:
    surrogate = BilinearSurrogate(extrapolate=extrapolate)
    surrogate.fit(list(points), list(points.values()))
    return surrogate


def value_at(surrogate: BilinearSurrogate, candidate: Candidate) -> float:
    (prediction,) = surrogate.predict([candidate])
    assert prediction is not None
    return prediction.mean


@settings(deadline=None)
@given(k=coefficients, candidate=candidates_inside)
def test_any_bilinear_function_is_reproduced_on_a_full_grid(
    k: tuple[float, ...], candidate: Candidate
) -> None:
    surrogate = fitted({c: bilinear(k, c) for c in GRID})

    assert value_at(surrogate, candidate) == pytest.approx(bilinear(k, candidate), abs=EXACT * 10)


@settings(deadline=None)
@given(values=values_on_grid)
def test_the_interpolant_passes_through_the_points(values: list[float]) -> None:
    surrogate = fitted(dict(zip(GRID, values, strict=True)))

    assert [value_at(surrogate, c) for c in GRID] == pytest.approx(values, abs=EXACT)


@settings(deadline=None)
@given(values=values_on_grid, candidate=candidates_inside)
def test_the_interpolant_stays_between_the_corners_of_its_cell(
    values: list[float], candidate: Candidate
) -> None:
    points = dict(zip(GRID, values, strict=True))
    surrogate = fitted(points)

    corners = [points[c] for c in surrogate.corners(candidate)]

    assert min(corners) - EXACT <= value_at(surrogate, candidate) <= max(corners) + EXACT


def test_a_full_cell_rests_on_its_four_corners() -> None:
    surrogate = fitted(dict.fromkeys(GRID, 0.5))

    assert set(surrogate.corners(Candidate(3, 0.75))) == {
        Candidate(n, s) for n in (2, 5) for s in (0.7, 0.8)
    }


def test_a_missing_corner_is_bridged_along_its_row() -> None:
    # Row 2 lacks s = 0.7: its line runs from 0.6 to 0.8, and N = 3 is a third of the way to 5.
    surrogate = fitted(
        {
            Candidate(2, 0.6): 0.9,
            Candidate(2, 0.8): 0.8,
            Candidate(5, 0.6): 0.6,
            Candidate(5, 0.7): 0.5,
            Candidate(5, 0.8): 0.2,
        }
    )

    assert value_at(surrogate, Candidate(2, 0.7)) == pytest.approx(0.85, abs=EXACT)
    assert value_at(surrogate, Candidate(3, 0.7)) == pytest.approx(0.85 - 0.35 / 3, abs=EXACT)


def test_rows_that_do_not_cover_the_sparsity_are_skipped() -> None:
    surrogate = fitted(
        {
            Candidate(1, 0.6): 0.9,
            Candidate(1, 0.9): 0.8,
            Candidate(2, 0.6): 0.1,
            Candidate(5, 0.6): 0.7,
            Candidate(5, 0.9): 0.4,
        }
    )

    assert value_at(surrogate, Candidate(2, 0.9)) == pytest.approx(0.7, abs=EXACT)


@pytest.mark.parametrize("candidate", [Candidate(2, 0.95), Candidate(10, 0.7), Candidate(1, 0.0)])
def test_outside_the_points_nothing_is_predicted(candidate: Candidate) -> None:
    points = {Candidate(n, s): 0.5 for n in (1, 2, 5) for s in (0.6, 0.8)}

    assert fitted(points).predict([candidate]) == [None]


@settings(deadline=None)
@given(k=coefficients)
def test_extrapolation_on_request_is_flagged_and_exact_for_planes(k: tuple[float, ...]) -> None:
    plane = (*k[:3], 0.0)
    surrogate = fitted(
        {Candidate(n, s): bilinear(plane, Candidate(n, s)) for n in (1, 2) for s in (0.6, 0.8)},
        extrapolate=True,
    )
    outside = Candidate(5, 0.9)

    (prediction,) = surrogate.predict([outside])

    assert prediction is not None
    assert prediction.is_extrapolated
    assert prediction.mean == pytest.approx(bilinear(plane, outside), abs=1e-11)


@pytest.mark.parametrize("points", [{}, {Candidate(1, 0.0): 0.9}])
def test_too_few_points_cannot_be_extrapolated(points: dict[Candidate, float]) -> None:
    assert fitted(points, extrapolate=True).predict([Candidate(2, 0.6)]) == [None]


def test_measured_points_have_no_deviation_and_others_have_the_leave_one_out_error() -> None:
    straight = {Candidate(1, s): 1.0 - s for s in (0.6, 0.7, 0.8)}
    bent = {**straight, Candidate(1, 0.7): 0.1}

    at_point, between = fitted(bent).predict([Candidate(1, 0.7), Candidate(1, 0.75)])
    (on_line,) = fitted(straight).predict([Candidate(1, 0.75)])

    assert at_point is not None
    assert between is not None
    assert on_line is not None
    assert at_point.std == 0.0
    assert between.std > 0.1
    assert on_line.std == pytest.approx(0.0, abs=EXACT)


def test_measured_points_have_the_deviation_of_their_noise_if_that_is_known() -> None:
    row = {Candidate(1, s): 1.0 - s for s in (0.6, 0.7, 0.8)}
    surrogate = BilinearSurrogate(noise_stds={Candidate(1, 0.7): 0.02})
    surrogate.fit(list(row), list(row.values()))

    noisy, exact = surrogate.predict([Candidate(1, 0.7), Candidate(1, 0.6)])

    assert (noisy.std, exact.std) == (0.02, 0.0)


def test_leave_one_out_has_the_deviation_of_leaving_out_the_other_points() -> None:
    row = [Candidate(2, s) for s in (0.6, 0.7, 0.8, 0.9)]
    values = [0.9, 0.8, 0.75, 0.3]

    last = leave_one_out(row, values)[-1]
    changed = leave_one_out(row, [*values[:-1], 0.1])[-1]

    # Without the last one: 0.7 is 0.025 below the line, both ends are 0.05 off theirs.
    assert last.std == pytest.approx(math.sqrt((0.025**2 + 2 * 0.05**2) / 3))
    assert changed.std == last.std


@settings(deadline=None)
@given(k=coefficients)
@pytest.mark.parametrize("direction", ["sparsity", "width", "both"])
def test_leave_one_out_of_a_plane_has_no_error_even_at_its_corners(
    direction: str, k: tuple[float, ...]
) -> None:
    plane = (*k[:3], 0.0)
    values = [bilinear(plane, c) for c in GRID]

    predictions = leave_one_out(GRID, values, direction=direction)

    assert [p.mean for p in predictions if p] == pytest.approx(values, abs=1e-11)


def test_leave_one_out_flags_the_ends_of_a_row() -> None:
    row = [Candidate(2, s) for s in SPARSITIES]

    predictions = leave_one_out(row, [0.9, 0.8, 0.7, 0.6, 0.5])

    assert [p is not None and p.is_extrapolated for p in predictions] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_leave_one_out_ignores_the_point_itself() -> None:
    row = [Candidate(2, s) for s in (0.6, 0.7, 0.8)]

    low = leave_one_out(row, [0.9, 0.0, 0.7])[1]
    high = leave_one_out(row, [0.9, 1.0, 0.7])[1]

    assert low == high
    assert low is not None
    assert low.mean == pytest.approx(0.8)


def test_leave_one_out_needs_two_other_points_on_the_line() -> None:
    assert leave_one_out([Candidate(1, 0.6), Candidate(1, 0.7)], [0.9, 0.8]) == [None, None]


def test_leave_one_out_in_both_directions_averages_them() -> None:
    points = [Candidate(n, s) for n in (1, 2, 3) for s in (0.6, 0.7, 0.8)]
    values = [0.0, 1.0, 0.0, 0.0, 0.0, 4.0, 0.0, 3.0, 0.0]  # the middle point is the fifth

    middle = leave_one_out(points, values, direction="both")[4]

    assert middle is not None
    assert middle.mean == pytest.approx(2.0)  # row: (0 + 4) / 2, column: (1 + 3) / 2


@pytest.mark.parametrize("seed", range(8))
def test_many_candidates_at_once_get_what_each_gets_alone(seed):
    rng = np.random.default_rng(seed)
    grid = [Candidate(n, s) for n in (1, 2, 5, 10) for s in (0.0, 0.6, 0.8, 0.95)]
    kept = [c for c in grid if rng.random() < 0.6]
    surrogate = BilinearSurrogate()
    surrogate.fit(kept, rng.random(len(kept)).tolist())
    asked = [Candidate(n, s) for n in (1, 2, 3, 5, 7, 10, 12) for s in (0.0, 0.3, 0.6, 0.9, 0.95)]

    cells = surrogate.cells(asked)

    for m, (candidate, predicted) in enumerate(zip(asked, surrogate.predict(asked), strict=True)):
        corners = surrogate.corners(candidate)
        if predicted is None:
            assert np.isnan([cells.values[m], *cells.widths[:, m], *cells.sparsities[:, m]]).all()
            continue
        assert cells.values[m] == pytest.approx(predicted.mean, abs=1e-12)
        widths, sparsities = zip(*((c.num_instances, c.sparsity) for c in corners), strict=True)
        assert tuple(cells.widths[:, m]) == (min(widths), max(widths))
        assert tuple(cells.sparsities[:, m]) == (min(sparsities), max(sparsities))
