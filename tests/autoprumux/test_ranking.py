from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprumux.ranking import LikelyBest, Place, rank_likely, rank_predicted, zeta
from autoprumux.records import Candidate
from autoprumux.surrogates.performance import PerformancePrediction


def predict(candidate: Candidate, accuracy_loss: float, speedup: float) -> PerformancePrediction:
    return PerformancePrediction(
        candidate=candidate,
        accuracy=0.9 - accuracy_loss,
        accuracy_std=0.01,
        accuracy_loss=accuracy_loss,
        accuracy_loss_std=0.01,
        speedup=speedup,
        log_speedup_std=0.1,
        most_speedup=100.0,
        least_loss=0.0,
        most_loss=1.0,
        chance_trained=1.0,
        is_measured=False,
        is_extrapolated=False,
    )


@pytest.mark.parametrize(
    "candidate",
    [Candidate(1, 0.0), Candidate(1, 0.8), Candidate(5, 0.0), Candidate(5, 0.8)],
    ids=str,
)
@pytest.mark.parametrize(
    ("loss", "value"),
    [(-0.01, 4.0), (0.01, 4.0), (0.91 - 0.90, 4.0), (0.0101, 0.0)],
    ids=["better than the baseline", "on the border", "on it but for rounding", "beyond"],
)
def test_zeta_is_the_speedup_within_the_budget_and_0_beyond(candidate, loss, value) -> None:
    assert zeta(predict(candidate, loss, 4.0), 0.01) == value


def test_without_a_budget_zeta_leaves_the_baseline_and_what_loses_nothing() -> None:
    baseline, lossy = predict(Candidate(1, 0.0), 0.0, 1.0), predict(Candidate(2, 0.0), 0.001, 2.0)

    assert (zeta(baseline, 0.0), zeta(lossy, 0.0)) == (1.0, 0.0)
    assert rank_predicted([lossy, baseline], 0.0) == [baseline]


@given(
    models=st.lists(
        st.builds(
            predict,
            st.builds(Candidate, st.sampled_from([1, 2, 5]), st.sampled_from([0.0, 0.6, 0.9])),
            st.floats(-0.02, 0.1),
            st.floats(0.5, 30.0),
        )
    ),
    budget=st.floats(0.0, 0.1),
)
def test_the_ranking_is_by_falling_zeta(models, budget) -> None:
    values = [zeta(model, budget) for model in rank_predicted(models, budget)]

    assert values == sorted((zeta(m, budget) for m in models if zeta(m, budget) > 0), reverse=True)


def test_the_ranking_follows_the_paper_on_a_table_made_by_hand() -> None:
    slow = predict(Candidate(1, 0.6), 0.001, 2.0)
    tied_lossy = predict(Candidate(2, 0.6), 0.015, 4.0)
    tied_narrow = predict(Candidate(1, 0.8), 0.010, 4.0)
    tied_wide = predict(Candidate(2, 0.7), 0.010, 4.0)
    over_budget = predict(Candidate(10, 0.9), 0.05, 30.0)

    ranked = rank_predicted([slow, tied_lossy, tied_wide, over_budget, tied_narrow], 0.02)

    assert ranked == [tied_narrow, tied_wide, tied_lossy, slow]


def places(speeds: dict[Candidate, tuple[float, float]]) -> list[Place]:
    """Yield candidates of given speed-ups and losses in the paper's order."""
    return sorted(Place(-speed, loss - 0.9, c, loss) for c, (speed, loss) in speeds.items())


def likely(
    table: list[Place], budget: float, chances: Mapping[Candidate, float]
) -> list[LikelyBest]:
    losses = np.array([place.loss for place in table])
    known = np.array([chances[place.candidate] for place in table])
    return rank_likely(table, losses, budget, known)


A, B, C, D, E = (Candidate(n, 0.0) for n in (10, 8, 5, 2, 1))


def test_the_likeliest_is_not_always_the_fastest_that_is_expected_to_be_within() -> None:
    table = places({A: (9.0, 0.05), B: (8.0, 0.021), C: (5.0, 0.019), D: (2.0, 0.0)})
    chances = {A: 0.01, B: 0.45, C: 0.6, D: 1.0}

    ranked = likely(table, 0.02, chances)

    assert [found.candidate for found in ranked] == [B, C, D]
    expected = [0.99 * 0.45, 0.99 * 0.55 * 0.6, 0.99 * 0.55 * 0.4]
    assert [found.chance for found in ranked] == pytest.approx(expected)


def test_the_fastest_that_is_sure_to_be_within_is_among_the_first() -> None:
    table = places({A: (9.0, 0.02), B: (8.0, 0.02), C: (5.0, 0.02), D: (2.0, 0.0), E: (1.0, 0.0)})
    chances = {A: 0.6, B: 0.7, C: 0.8, D: 1.0, E: 1.0}

    ranked = likely(table, 0.02, chances)

    assert [found.candidate for found in ranked] == [A, B, D]
    assert [found.chance for found in ranked] == pytest.approx([0.6, 0.28, 0.4 * 0.3 * 0.2])


def test_what_is_slower_than_a_sure_one_follows_in_the_order_of_the_paper() -> None:
    table = places({A: (9.0, 0.3), B: (8.0, 0.01), C: (5.0, 0.05), D: (3.0, 0.0), E: (1.0, 0.0)})
    measured = {A: 0.0, B: 1.0, C: 0.0, D: 1.0, E: 1.0}

    ranked = likely(table, 0.02, measured)

    assert ranked == [LikelyBest(B, 1.0), LikelyBest(D, 0.0), LikelyBest(E, 0.0)]


def test_a_chance_that_tells_nothing_does_not_push_aside_what_is_within() -> None:
    table = places({A: (9.0, 0.3), B: (8.0, 0.01), C: (5.0, 0.0)})
    chances = {A: 0.005, B: 1.0, C: 1.0}

    ranked = likely(table, 0.02, chances)

    assert [found.candidate for found in ranked] == [B, C]


def test_nothing_within_the_budget_names_nothing() -> None:
    table = places({A: (9.0, 0.3), E: (1.0, 0.0)})

    assert likely(table, -0.01, dict.fromkeys([p.candidate for p in table], 0.0)) == []


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_chances_to_be_the_best_are_those_of_exclusive_events(chances: list[float]) -> None:
    cells = [Candidate(n + 1, 0.0) for n in range(len(chances))]
    table = [Place(-100.0 + n, -0.9, cell, 0.0) for n, cell in enumerate(cells)]

    ranked = likely(
        table, 0.02, {c: chances[c.num_instances - 1] for c in (p.candidate for p in table)}
    )

    found = [model.chance for model in ranked]
    assert all(chance is not None and 0.0 <= chance <= 1.0 for chance in found)
    assert sum(chance for chance in found if chance) <= 1.0 + 1e-9
