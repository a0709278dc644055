import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.grouping import group_indices, ungroup
from trainers.errors import ConfigError, ShapeError

sizes = st.integers(1, 300)
widths = st.integers(1, 24)
seeds = st.none() | st.integers(0, 1000)


@given(sizes, widths, seeds)
def test_grouping_loses_nothing_and_counts_nothing_twice(num_examples, num_instances, seed):
    indices, is_real = group_indices(num_examples, num_instances, seed=seed)

    assert sorted(indices[is_real].tolist()) == list(range(num_examples))
    assert is_real.sum() == num_examples


@given(sizes, widths, seeds)
def test_only_the_end_of_the_last_group_is_padding(num_examples, num_instances, seed):
    indices, is_real = group_indices(num_examples, num_instances, seed=seed)

    assert indices.shape == is_real.shape == (-(-num_examples // num_instances), num_instances)
    assert is_real[:-1].all()
    assert is_real[-1, 0]
    assert np.array_equal(np.sort(is_real[-1])[::-1], is_real[-1])


@given(sizes, widths, seeds)
def test_padding_repeats_the_first_examples_of_the_order(num_examples, num_instances, seed):
    flat = group_indices(num_examples, num_instances, seed=seed)[0].reshape(-1)

    assert all(flat[at] == flat[at % num_examples] for at in range(num_examples, flat.size))


@given(sizes, widths, seeds, st.lists(st.integers(1, 3), max_size=2))
def test_ungrouping_restores_the_order_of_the_data_set(num_examples, num_instances, seed, rest):
    values = np.random.default_rng(0).normal(size=(num_examples, *rest))
    indices, is_real = group_indices(num_examples, num_instances, seed=seed)

    restored = ungroup(values[indices], indices, is_real, num_examples)

    assert np.array_equal(restored, values)
    assert restored.dtype == values.dtype


@given(sizes, widths)
def test_values_of_padding_never_reach_the_result(num_examples, num_instances):
    indices, is_real = group_indices(num_examples, num_instances, seed=0)
    values = np.where(is_real, indices, -1)

    assert ungroup(values, indices, is_real, num_examples).tolist() == list(range(num_examples))


def test_without_a_seed_groups_follow_the_data_set():
    indices, is_real = group_indices(5, 2, seed=None)

    assert indices.tolist() == [[0, 1], [2, 3], [4, 0]]
    assert is_real.tolist() == [[True, True], [True, True], [True, False]]


def test_same_seed_forms_the_same_groups_and_another_seed_others():
    first, again, other = (group_indices(100, 5, seed=seed)[0] for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("num_examples", "num_instances", "message"),
    [(0, 2, "At least 1 example"), (5, 0, "`num_instances` must be at least 1, got 0")],
)
def test_groups_of_nothing_are_refused(num_examples, num_instances, message):
    with pytest.raises(ConfigError, match=message):
        group_indices(num_examples, num_instances, seed=None)


def test_values_of_another_shape_are_refused():
    indices, is_real = group_indices(5, 2, seed=None)

    with pytest.raises(ShapeError, match=r"shape \(2, 3\), their indices \(3, 2\)"):
        ungroup(np.zeros((2, 3)), indices, is_real, 5)


def test_groups_of_another_data_set_are_refused():
    indices, is_real = group_indices(5, 2, seed=None)

    with pytest.raises(ShapeError, match="each of the 6 examples once"):
        ungroup(np.zeros((3, 2)), indices, is_real, 6)
