import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.measure.batching import GroupSampler, make_batch


def test_a_batch_holds_the_chosen_examples_and_no_shared_padding(make_encoded):
    encoded = make_encoded(20, length=12)
    shortest = np.argsort(encoded.lengths)[:6].reshape(3, 2)

    batch = make_batch(encoded, shortest, torch.device("cpu"))

    longest = encoded.lengths[shortest].max()
    assert longest < 12
    assert batch.input_ids.shape == (3, 2, longest)
    assert np.array_equal(batch.input_ids, encoded.input_ids[shortest][..., :longest])
    assert np.array_equal(batch.attention_mask.sum(dim=-1), encoded.lengths[shortest])
    assert batch.attention_mask[..., 0].all()


def test_an_epoch_shows_every_example_once():
    sampler = GroupSampler(num_examples=24, num_instances=2, num_groups=3, seed=0)

    seen = np.concatenate([sampler.groups(step).ravel() for step in range(4)])

    assert sorted(seen) == list(range(24))


def test_epochs_differ_in_order():
    sampler = GroupSampler(num_examples=24, num_instances=2, num_groups=3, seed=0)

    first, second = (sampler.groups(step) for step in (0, 4))

    assert not np.array_equal(first, second)


@settings(max_examples=50, deadline=None)
@given(
    num_examples=st.integers(1, 40),
    num_instances=st.integers(1, 10),
    num_groups=st.integers(1, 8),
    step=st.integers(0, 100),
)
def test_groups_follow_from_the_step_alone(num_examples, num_instances, num_groups, step):
    shape = (num_examples, num_instances, num_groups)
    running, fresh = GroupSampler(*shape, seed=1), GroupSampler(*shape, seed=1)
    for earlier in range(step):
        running.groups(earlier)

    groups = running.groups(step)

    assert np.array_equal(groups, fresh.groups(step))
    assert groups.shape == (num_groups, num_instances)
    assert 0 <= groups.min() <= groups.max() < num_examples


@pytest.mark.parametrize(("seed", "is_same"), [(0, True), (1, False)])
def test_the_seed_decides_the_order(seed, is_same):
    first, second = (GroupSampler(100, 2, 4, s).groups(0) for s in (0, seed))

    assert np.array_equal(first, second) == is_same
