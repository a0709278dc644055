import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.errors import ConfigError
from trainers.measure.batching import GroupSampler, make_batch
from trainers.phase_config import PhaseConfig


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


def make_sampler(encoded, num_instances, num_groups, *, seed=0, bucket_by_length=True):
    config = PhaseConfig(num_updates=1, batch_size=num_groups, bucket_by_length=bucket_by_length)
    return GroupSampler(encoded, num_instances, config, seed)


@pytest.mark.parametrize("bucket_by_length", [True, False])
def test_an_epoch_shows_every_example_once(make_encoded, bucket_by_length):
    sampler = make_sampler(make_encoded(24), 2, 3, bucket_by_length=bucket_by_length)

    seen = np.concatenate([sampler.groups(step).ravel() for step in range(4)])

    assert sorted(seen) == list(range(24))


def test_epochs_differ_in_order(make_encoded):
    sampler = make_sampler(make_encoded(24), 2, 3)

    first, second = (sampler.groups(step) for step in (0, 4))

    assert not np.array_equal(first, second)


def test_bucketed_batches_hold_less_padding_but_the_same_random_groups(make_encoded):
    encoded = make_encoded(960, length=16)

    def draw(bucket_by_length):
        sampler = make_sampler(encoded, 2, 8, bucket_by_length=bucket_by_length)
        return np.stack([sampler.groups(step) for step in range(60)])

    def padded(batches):
        return int(encoded.lengths[batches].max(axis=(1, 2)).sum())

    bucketed, plain = draw(True), draw(False)
    assert padded(bucketed) < 0.85 * padded(plain)
    assert {tuple(g) for g in bucketed.reshape(-1, 2)} == {tuple(g) for g in plain.reshape(-1, 2)}
    longest = encoded.lengths[bucketed].max(axis=(1, 2))
    assert 0.3 < (np.diff(longest) > 0).mean() + (np.diff(longest) == 0).mean() / 2 < 0.7


@settings(max_examples=50, deadline=None)
@given(
    num_examples=st.integers(10, 40),
    num_instances=st.integers(1, 10),
    num_groups=st.integers(1, 8),
    bucket_by_length=st.booleans(),
    step=st.integers(0, 100),
)
def test_groups_follow_from_the_step_alone(
    make_encoded, num_examples, num_instances, num_groups, bucket_by_length, step
):
    encoded = make_encoded(num_examples)
    running, fresh = (
        make_sampler(encoded, num_instances, num_groups, seed=1, bucket_by_length=bucket_by_length)
        for _ in range(2)
    )
    for earlier in range(step):
        running.groups(earlier)

    groups = running.groups(step)

    assert np.array_equal(groups, fresh.groups(step))
    assert groups.shape == (num_groups, num_instances)
    assert 0 <= groups.min() <= groups.max() < num_examples
    assert all(len(set(group)) == num_instances for group in groups.reshape(-1, num_instances))


def test_groups_wider_than_the_training_set_are_refused(make_encoded):
    with pytest.raises(ConfigError, match=r"N=6 would hold an example twice, .* 5 to train on"):
        make_sampler(make_encoded(5), 6, 1)


@pytest.mark.parametrize(("seed", "is_same"), [(0, True), (1, False)])
def test_the_seed_decides_the_order(make_encoded, seed, is_same):
    encoded = make_encoded(100)

    first, second = (make_sampler(encoded, 2, 4, seed=s).groups(0) for s in (0, seed))

    assert np.array_equal(first, second) == is_same
