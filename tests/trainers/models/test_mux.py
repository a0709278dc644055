import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import (
    TOLERANCES,
    difference,
    dtypes,
    groups_of,
    random_model,
    seeds,
    shapes,
    sizes,
)

from trainers.models.mux import HadamardMultiplexer, gaussian_keys


@pytest.mark.parametrize(("norm", "length"), [(1.0, 1.0), (20.0, 20.0), (0.0, 32**0.5)])
def test_keys_have_the_requested_length_and_zero_means_the_root_of_the_hidden_size(norm, length):
    torch.manual_seed(0)

    keys = gaussian_keys(5, 32, norm)

    assert keys.shape == (5, 32)
    assert keys.norm(dim=1).numpy() == pytest.approx(length, rel=1e-5)


ANY = {
    "num_instances": st.sampled_from([1, 2, 3, 5, 10]),
    "size": st.sampled_from([1, 8, 21, 32]),
    "lengths": st.tuples(st.integers(1, 3), st.integers(1, 5)),
    "dtype": dtypes(has_half=True),
    "seed": seeds(),
}


def draw_mux(num_instances, size, lengths, dtype, seed):
    """Yield a multiplexer and `(B, N, T, D)` embeddings."""
    torch.manual_seed(seed)
    mux = HadamardMultiplexer(num_instances, size, 0.0).to(dtype)
    num_groups, length = lengths
    return mux, torch.randn(num_groups, num_instances, length, size).to(dtype)


@settings(max_examples=25, deadline=None)
@given(**ANY)
def test_multiplexing_is_the_mean_of_embeddings_scaled_by_their_keys(**drawn):
    mux, embeddings = draw_mux(**drawn)

    mixed = mux(embeddings)

    expected = torch.zeros_like(mixed)
    for group in range(len(embeddings)):
        for position in range(embeddings.shape[2]):
            for i, key in enumerate(mux.keys):
                scaled = key * embeddings[group, i, position]
                expected[group, position] += scaled / len(mux.keys)
    assert mixed.dtype == drawn["dtype"]
    assert difference(mixed, expected) < TOLERANCES[drawn["dtype"]]


@settings(max_examples=25, deadline=None)
@given(**ANY)
def test_multiplexing_is_linear(**drawn):
    mux, first = draw_mux(**drawn)
    second = torch.randn(first.shape).to(first)

    together = mux(2 * first - 3 * second)

    apart = 2 * mux(first) - 3 * mux(second)
    assert difference(together, apart) < TOLERANCES[drawn["dtype"]]


@settings(max_examples=15, deadline=None)
@given(**ANY)
def test_the_mixture_is_the_sum_of_those_of_each_instance_alone(**drawn):
    mux, embeddings = draw_mux(**drawn)
    alone = torch.eye(len(mux.keys)).to(embeddings)[:, None, :, None, None]  # (N, 1, N, 1, 1)

    apart = [mux(embeddings * slot) for slot in alone]

    found = torch.stack(apart).sum(dim=0)
    assert difference(found, mux(embeddings)) < TOLERANCES[drawn["dtype"]]


@settings(max_examples=20, deadline=None)
@given(
    shape=shapes(widths=(2, 3, 5), embed_mode="single_pass", layer_norm_eps=0.0),
    size=sizes(),
    dtype=dtypes(),
    seed=seeds(),
    scale=st.sampled_from([0.3, 2.0, 17.0]),
)
def test_longer_keys_change_nothing_without_positions_and_types(shape, size, dtype, seed, scale):
    """The layer norm takes the scale out again, in training and with folded tables."""
    model, batch = random_model(shape, seed=seed, dtype=dtype), groups_of(shape, size, seed)
    embeddings = model.embeddings
    with torch.no_grad():
        embeddings.positions.weight.zero_()
        embeddings.token_types.weight.zero_()
        before, folded = embeddings(batch, None), model(batch)
        embeddings.mux.keys.mul_(scale)
        model.train().eval()  # drops the folded table

        assert difference(embeddings(batch, None), before) < TOLERANCES[dtype]
        assert difference(model(batch), folded) < TOLERANCES[dtype]
        embeddings.positions.weight.add_(1.0 + torch.rand(shape.hidden_size))
        far = embeddings(batch, None)
        embeddings.mux.keys.div_(scale)
        model.train().eval()
        assert difference(embeddings(batch, None), far) > 1e-2


def test_permuting_instances_with_their_keys_yields_the_same_mixture():
    torch.manual_seed(0)
    mux = HadamardMultiplexer(3, 32, 1.0).double()
    embeddings = torch.randn(2, 3, 4, 32, dtype=torch.float64)
    order = torch.tensor([2, 0, 1])
    before, moved = mux(embeddings), mux(embeddings[:, order])

    with torch.no_grad():
        mux.keys.copy_(mux.keys[order])

    torch.testing.assert_close(mux(embeddings[:, order]), before, atol=1e-12, rtol=0)
    assert not torch.allclose(moved, before)


def test_keys_are_saved_but_never_trained():
    mux = HadamardMultiplexer(2, 32, 1.0)

    assert "keys" in mux.state_dict()
    assert not mux.keys.requires_grad
