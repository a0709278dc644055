import pytest

from autoprumux.surrogates.pairs import PaperPair
from autoprumux.validation.budget_hits import BUDGETS, hit_row

ROW = {(2, 0.6): (0.89, 3.0), (2, 0.65): (0.89, 3.5), (2, 0.7): (0.87, 4.0)}
"""Loses 1, 1 and 3 points; (2, 0.65) is predicted to lose 2."""


def row_of(grid, points="all", table=None):
    speedups = table or {c: m.speedup for c, m in grid.measured.items()}
    return hit_row(PaperPair(speedups), grid, points)


def missed(row) -> list[float]:
    return [budget for budget, is_hit in zip(BUDGETS, row.hits, strict=True) if not is_hit]


def test_there_are_21_budgets_from_0_to_10_points():
    assert pytest.approx([0.005 * i for i in range(21)]) == BUDGETS


def test_budgets_between_the_measured_and_the_predicted_loss_are_missed(make_grid):
    row = row_of(make_grid(ROW))

    assert missed(row) == [0.01, 0.015]
    assert row.is_baseline_best == (True, True, *(False,) * 19)


def test_unseen_points_compete_with_the_baseline_alone(make_grid):
    row = row_of(make_grid(ROW), "unseen")

    assert missed(row) == [0.01, 0.015]
    assert sum(row.is_baseline_best) == 2


def test_a_wrong_speed_drops_the_best_from_the_predicted_three(make_grid):
    edge = {(1, s): (0.90, speedup) for s, speedup in ((0.6, 1.5), (0.7, 2.0), (0.8, 2.5))}
    grid = make_grid(ROW | edge)
    speedups = {c: m.speedup for c, m in grid.measured.items()}
    slow = {c: 1.2 if c.num_instances == 2 else v for c, v in speedups.items()}

    assert missed(row_of(grid)) == [0.01, 0.015]
    assert missed(row_of(grid, table=slow)) == list(BUDGETS[2:])


@pytest.mark.parametrize(
    ("rival", "num_missed"), [((0.8949, 3.0), 19), ((0.8949, 2.9), 0)], ids=["tied", "slower"]
)
def test_of_equally_fast_models_the_more_accurate_one_is_the_best(make_grid, rival, num_missed):
    # (2, 0.65) is the best, but predicted to be as accurate as its neighbours, so only the
    # third place is left to it; a second rival that is as fast takes even that.
    tied = {(2, 0.6): (0.894, 3.0), (2, 0.65): (0.895, 3.0), (2, 0.7): (0.894, 3.0)}
    grid = make_grid({**tied, (1, 0.9): (0.8949, 3.0), (1, 0.8): rival})

    row = row_of(grid)

    within = [b for b in missed(row) if b >= 0.01]
    assert len(within) == num_missed


def test_of_equal_models_the_narrow_one_is_the_best(make_grid):
    values = {(n, s): (0.89, 3.0) for n in (2, 5) for s in (0.6, 0.7, 0.8)}

    # All six are predicted as measured; the first three of the order are those of N = 2.
    assert missed(row_of(make_grid(values))) == []


def test_a_candidate_that_cannot_be_predicted_is_no_hit(make_grid):
    values = {(2, 0.6): (0.89, 3.0), (2, 0.7): (0.89, 3.1), (10, 0.65): (0.89, 9.0)}

    assert missed(row_of(make_grid(values))) == list(BUDGETS[2:])
