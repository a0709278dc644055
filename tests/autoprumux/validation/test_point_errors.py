import pytest

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction
from autoprumux.surrogates.pairs import PaperPair, PerformancePair, StructuredPair
from autoprumux.validation.point_errors import ErrorRow, error_rows

WIDTHS, TRAINING = (2, 5, 10), (0.6, 0.7, 0.8, 0.9, 0.95)
UNSEEN = (0.65, 0.75, 0.85)


def rows_of(grid, *pairs, has_table=True) -> dict[tuple[str, str, str], ErrorRow]:
    rows = error_rows(pairs, grid, has_table=has_table)
    return {(row.surrogate, row.target, row.points): row for row in rows}


def plane(n: int, s: float) -> tuple[float, float]:
    return 0.9 - 0.01 * n - 0.1 * s, float(n)


def table_of(grid, factor: float = 1.0) -> PaperPair:
    return PaperPair({c: factor * m.speedup for c, m in grid.measured.items()})


@pytest.mark.parametrize(
    "surrogate", ["bilinear along s", "bilinear along N", "bilinear, mean of both"]
)
def test_a_plane_is_predicted_without_error_even_at_its_corners(make_grid, surrogate):
    grid = make_grid({(n, s): plane(n, s) for n in WIDTHS for s in TRAINING})

    row = rows_of(grid)[surrogate, "accuracy", "left out"]

    assert row.num_points == row.num_predicted == row.num_within == 15
    assert row.mean_error == pytest.approx(0.0, abs=1e-12)
    assert row.num_interpolated == {"along s": 9, "along N": 5}.get(surrogate[9:], 11)


def test_unseen_points_of_a_plane_are_predicted_without_error(make_grid):
    grid = make_grid({(n, s): plane(n, s) for n in WIDTHS for s in TRAINING + UNSEEN})

    row = rows_of(grid, table_of(grid))["bilinear + table", "accuracy", "unseen"]

    assert [error.candidate for error in row.errors] == [
        Candidate(n, s) for n in WIDTHS for s in UNSEEN
    ]
    assert row.mean_error == pytest.approx(0.0, abs=1e-12)


def test_what_is_left_out_is_compared_with_the_line_through_its_neighbours(make_grid):
    accuracies = {0.6: 0.88, 0.7: 0.85, 0.8: 0.86}
    grid = make_grid({(2, s): (accuracy, 2.0) for s, accuracy in accuracies.items()})

    row = rows_of(grid)["bilinear along s", "accuracy", "left out"]

    assert [error.error for error in row.errors] == pytest.approx([-0.04, 0.02, -0.04])
    assert row.num_within == 0
    assert row.num_interpolated == 1
    assert row.mean_error == pytest.approx(0.1 / 3)


@pytest.mark.parametrize(("error", "num_within"), [(0.015, 1), (0.0151, 0)])
def test_accuracies_count_as_near_up_to_one_and_a_half_points(make_grid, error, num_within):
    # 0.65 is predicted halfway between its neighbours, 0.86.
    grid = make_grid({(2, 0.6): (0.88, 2), (2, 0.7): (0.84, 2), (2, 0.65): (0.86 + error, 2)})

    row = rows_of(grid, table_of(grid))["bilinear + table", "accuracy", "unseen"]

    assert row.num_within == num_within
    assert row.num_points == 1


@pytest.mark.parametrize(("factor", "num_within"), [(1.2, 3), (0.8, 3), (1.21, 0), (0.79, 0)])
def test_speedups_count_as_near_up_to_a_fifth(make_grid, factor, num_within):
    grid = make_grid({(2, s): (0.88, 2.0) for s in (0.6, 0.7, 0.8)})

    row = rows_of(grid, table_of(grid, factor))["bilinear + table", "speedup", "left out"]

    assert row.num_within == num_within


def test_a_point_that_a_surrogate_cannot_predict_counts_as_missed(make_grid):
    grid = make_grid({(2, 0.6): (0.88, 2.0), (2, 0.7): (0.86, 2.0), (5, 0.65): (0.8, 4.0)})

    row = rows_of(grid, table_of(grid))["bilinear + table", "accuracy", "unseen"]

    assert (row.num_points, row.num_predicted, row.num_within) == (1, 0, 0)
    assert row.mean_error is None


def test_a_table_of_the_study_itself_is_not_counted(make_grid):
    grid = make_grid({(2, s): (0.88, 2.0) for s in (0.6, 0.7, 0.8)})

    rows = rows_of(grid, table_of(grid), StructuredPair(), has_table=False)

    assert {key[0] for key in rows if key[1] == "speedup"} == {"structured + latency"}


@pytest.mark.parametrize("pair", [StructuredPair(), PerformancePair()])
def test_what_is_left_out_is_not_seen_by_the_surrogate(make_grid, pair):
    values = {(n, s): plane(n, s) for n in WIDTHS for s in TRAINING}
    changed = values | {(5, 0.8): (0.60, 30.0)}

    before, after = (rows_of(make_grid(v), pair) for v in (values, changed))

    for target in ("accuracy", "speedup"):
        of_change = [
            next(
                error.predicted
                for error in rows[pair.name, target, "left out"].errors
                if error.candidate == Candidate(5, 0.8)
            )
            for rows in (before, after)
        ]
        assert of_change[0] == of_change[1]


def test_intervals_that_hold_are_counted(make_grid):
    accuracies = {0.6: 0.88, 0.7: 0.86, 0.8: 0.84, 0.9: 0.82}
    values = {(2, s): (accuracy, 2.0) for s, accuracy in accuracies.items()}
    grid = make_grid(values | {(2, 0.65): (0.87, 2.0), (2, 0.75): (0.50, 2.0)})

    row = rows_of(grid, StructuredPair())["structured + latency", "accuracy", "unseen"]

    assert [interval.level for interval in row.intervals] == [0.5, 0.8, 0.9]
    assert [interval.num_covered for interval in row.intervals] == [1, 1, 1]
    assert [interval.num_intervals for interval in row.intervals] == [2, 2, 2]


class Told:
    """Predicts as told."""

    name = "told"

    def __init__(self, predictions: list[Prediction | None]) -> None:
        self._predictions = predictions

    def accuracies(self, measured, candidates):
        return self._predictions[: len(candidates)]

    def log_speedups(self, measured, candidates):
        return self._predictions[: len(candidates)]


@pytest.mark.parametrize(
    ("distance", "covered"),
    [(0.67, (1, 1, 1)), (0.68, (0, 1, 1)), (1.29, (0, 0, 1)), (1.65, (0,) * 3)],
)
def test_intervals_reach_as_far_as_those_of_a_normal_distribution(make_grid, distance, covered):
    row_of_three = {(2, s): (0.88, 2.0) for s in (0.6, 0.7, 0.8)}
    grid = make_grid(
        row_of_three | {(2, 0.65): (0.87 + 0.01 * distance, 2.0), (2, 0.75): (0.8, 2)}
    )
    pair = Told([Prediction(0.87, 0.01), None])

    row = rows_of(grid, pair)["told", "accuracy", "unseen"]

    assert tuple(interval.num_covered for interval in row.intervals) == covered
    assert {interval.num_intervals for interval in row.intervals} == {1}
    assert (row.num_predicted, row.num_points) == (1, 2)
    widths = [interval.mean_width for interval in row.intervals]
    assert widths == pytest.approx([0.0134898, 0.0256310, 0.0328971], abs=1e-6)


def test_surrogates_without_deviations_have_no_intervals(make_grid):
    grid = make_grid({(2, s): (0.88, 2.0) for s in (0.6, 0.65, 0.7, 0.8)})

    row = rows_of(grid, Told([Prediction(0.88, 0.0)]))["told", "accuracy", "unseen"]

    assert row.intervals == ()


def test_the_bilinear_model_has_intervals_for_what_is_left_out(make_grid):
    accuracies = {0.6: 0.88, 0.7: 0.85, 0.8: 0.86, 0.9: 0.80}
    grid = make_grid({(2, s): (accuracy, 2.0) for s, accuracy in accuracies.items()})

    row = rows_of(grid)["bilinear along s", "accuracy", "left out"]

    assert all(error.predicted.std > 0 for error in row.errors)
    assert row.intervals[0].num_intervals == 4


@pytest.mark.parametrize("pair", [StructuredPair(), PerformancePair()])
def test_ends_of_a_row_are_not_between_points(make_grid, pair):
    grid = make_grid({(2, s): plane(2, s) for s in TRAINING} | {(2, 0.0): (0.9, 2.0)})

    for target in ("accuracy", "speedup"):
        row = rows_of(grid, pair)[pair.name, target, "left out"]
        extrapolated = [e.candidate.sparsity for e in row.errors if e.predicted.is_extrapolated]
        assert extrapolated == [0.95]
        assert row.num_interpolated == 4
