import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.token_tables import TokenTable
from trainers.serving.windows import Grouping, make_batches, run_batches

PAD = 99


def make_tokens(lengths):
    """Every token of sequence i is i, every type i % 2."""
    ids = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return TokenTable(ids, ids % 2, np.array(lengths, np.int64), frozenset())


def grouping(num_instances=1, num_positions=64, batch_size=None):
    return Grouping(
        num_instances=num_instances, pad=PAD, num_positions=num_positions, batch_size=batch_size
    )


def first_tokens(input_ids, mask, types):
    """A model whose two logits are the first token and the number of tokens."""
    return np.stack([input_ids[..., 0], mask.sum(axis=-1)], axis=-1).astype(np.float32)


@given(
    lengths=st.lists(st.integers(1, 30), max_size=40),
    num_instances=st.integers(1, 6),
    batch_size=st.none() | st.integers(1, 5),
)
def test_every_sequence_comes_back_at_its_place(lengths, num_instances, batch_size):
    batches = make_batches(make_tokens(lengths), grouping(num_instances, batch_size=batch_size))

    found = run_batches(first_tokens, batches, len(lengths), 2)

    assert found[:, 0].tolist() == list(range(len(lengths)))
    assert found[:, 1].tolist() == lengths
    assert sum(batch.num_tokens for batch in batches) == sum(lengths)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), n=st.integers(1, 6))
def test_a_batch_keeps_to_its_positions_unless_it_is_one_group(lengths, n):
    for batch in make_batches(make_tokens(lengths), grouping(n)):
        num_groups, num_instances, length = batch.input_ids.shape
        assert num_instances == n
        assert num_groups == 1 or num_groups * length <= 64


def test_what_is_asked_for_is_the_number_of_groups():
    batches = make_batches(make_tokens([9] * 14), grouping(2, num_positions=1, batch_size=3))

    assert [len(batch.places) for batch in batches] == [3, 3, 1]


def test_sequences_of_similar_length_share_groups():
    lengths = [3, 20, 4, 21, 3, 22, 4, 20]

    batches = make_batches(make_tokens(lengths), grouping(4, batch_size=1))

    assert [batch.input_ids.shape[-1] for batch in batches] == [4, 22]
    assert sum(batch.mask.size for batch in batches) == 4 * 4 + 4 * 22


def test_padding_holds_the_padding_token_and_is_not_attended():
    (batch,) = make_batches(make_tokens([2, 4]), grouping(2))

    rows = batch.input_ids[0][np.argsort(batch.places[0])]
    assert rows.tolist() == [[0, 0, PAD, PAD], [1, 1, 1, 1]]
    assert np.array_equal(batch.mask, batch.input_ids != PAD)
    assert batch.types.tolist() == ((batch.input_ids == 1) * 1).tolist()


def test_fewer_sequences_than_a_group_fill_it():
    (batch,) = make_batches(make_tokens([2, 3]), grouping(5))

    assert batch.places.shape == (1, 5)
    assert batch.is_real.sum() == 2


def test_neighbours_of_one_length_are_parted():
    batches = make_batches(make_tokens([5] * 100), grouping(2, num_positions=10_000))

    apart = np.abs(np.diff(batches[0].places, axis=1))
    assert (apart == 1).mean() < 0.2


@pytest.mark.parametrize("num_instances", [1, 5])
def test_no_sequence_makes_no_batch(num_instances):
    assert make_batches(make_tokens([]), grouping(num_instances)) == []
