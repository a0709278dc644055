import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.phases.alignment import (
    align_layers,
    choose_teachers,
    same_layers,
    teacher_layers,
)


def drawn(word, num_layers, num_draws=300):
    return [
        choose_teachers(word, num_layers, np.random.default_rng([0, step]))
        for step in range(num_draws)
    ]


@pytest.mark.parametrize(
    ("num_layers", "layers"),
    [(12, (2, 5, 8, 11)), (6, (0, 2, 3, 5)), (4, (0, 1, 2, 3)), (3, (0, 1, 2)), (1, (0,))],
)
def test_teacher_layers_are_evenly_spaced_and_end_with_the_last(num_layers, layers):
    assert teacher_layers(num_layers) == layers


ALL = [True] * 5


@pytest.mark.parametrize(
    ("distances", "exists", "aligned"),
    [
        # Free choice: the smallest error of each row happens to be in order.
        ([[1, 5, 5, 5, 5], [5, 5, 1, 5, 5], [5, 5, 5, 5, 1]], ALL, [0, 2, 4]),
        # The last teacher layer takes student layer 2, so the one before must lie below it.
        ([[9, 9, 9, 1, 9], [3, 2, 1, 1, 1], [5, 5, 1, 5, 5]], ALL, [0, 1, 2]),
        # Nothing lies below layer 0: it is taken again.
        ([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], ALL, [0, 0, 0]),
        # A layer that is gone is never chosen, whatever its error.
        ([[9, 3, 0, 2, 9], [9, 9, 9, 0, 1]], [True, True, False, False, True], [1, 4]),
        # Rank order: sorted by error the layers are (1, 3, 2, 0); a mask of existing layers put on
        # those ranks would drop layer 2 and let the missing layer 3 through.
        ([[4, 1, 3, 2]], [True, False, True, False], [2]),
        # Nothing exists: the last state is as good as any.
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [False] * 4, [3, 3]),
    ],
)
def test_layers_are_aligned_from_the_top_in_order_among_existing_ones(distances, exists, aligned):
    chosen = align_layers(
        "ordered", torch.tensor(distances, dtype=torch.float), torch.tensor(exists)
    )

    assert chosen == list(enumerate(aligned))


@settings(max_examples=50, deadline=None)
@given(
    word=st.sampled_from(["ordered", "random", "windowed"]),
    seed=st.integers(0, 10_000),
    num_layers=st.integers(1, 8),
    data=st.data(),
)
def test_aligned_layers_never_cross_and_always_exist(word, seed, num_layers, data):
    exists = data.draw(st.lists(st.booleans(), min_size=num_layers, max_size=num_layers))
    distances = torch.rand(4, num_layers, generator=torch.Generator().manual_seed(seed))

    chosen = [layer for _, layer in align_layers(word, distances, torch.tensor(exists))]

    assert chosen == sorted(chosen)
    assert all(exists[layer] for layer in chosen) or not any(exists)


@pytest.mark.parametrize(
    ("distances", "aligned"),
    [
        ([[1, 5, 5], [5, 5, 1]], [0, 2]),
        # Orders may cross, and a layer may be taken twice.
        ([[5, 5, 1], [1, 5, 5], [1, 5, 5]], [2, 0, 0]),
    ],
)
def test_free_alignment_takes_the_closest_layer_whether_it_exists_or_not(distances, aligned):
    distances = torch.tensor(distances, dtype=torch.float)

    for exists in ([True] * 3, [False, True, False]):
        chosen = align_layers("free", distances, torch.tensor(exists))
        assert chosen == list(enumerate(aligned))


def test_fixed_alignment_pairs_equal_layers_that_exist():
    assert same_layers(torch.tensor([True, False, True])) == [(0, 0), (2, 2)]
    assert same_layers(torch.tensor([False, False])) == []


@pytest.mark.parametrize(
    ("word", "layers"),
    [("fixed", tuple(range(12))), ("free", (2, 5, 8, 11)), ("ordered", (2, 5, 8, 11))],
)
def test_these_words_have_the_same_teachers_at_every_update(word, layers):
    assert set(drawn(word, 12, 5)) == {layers}


@pytest.mark.parametrize("num_layers", [3, 4, 6, 12])
def test_random_teachers_are_different_layers_in_order_and_any_of_them(num_layers):
    teachers = drawn("random", num_layers)

    assert all(list(t) == sorted(set(t)) for t in teachers)
    assert {len(t) for t in teachers} == {min(4, num_layers)}
    assert {layer for t in teachers for layer in t} == set(range(num_layers))
    assert min(teachers)[0] == 0  # nothing keeps the first layers out


@pytest.mark.parametrize(
    ("num_layers", "windows"),
    [
        (12, [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}]),
        (6, [{0}, {1, 2}, {3}, {4, 5}]),
        (3, [{0}, {1}, {2}]),
    ],
)
def test_windowed_teachers_are_one_of_each_window_and_any_of_it(num_layers, windows):
    teachers = drawn("windowed", num_layers)

    assert [set(layers) for layers in zip(*teachers, strict=True)] == windows


@pytest.mark.parametrize("word", ["random", "windowed"])
def test_drawn_teachers_follow_from_the_seed_and_the_step(word):
    assert drawn(word, 12) == drawn(word, 12)
    assert len(set(drawn(word, 12))) > 10
