import pytest
import torch

from trainers.models.mux import HadamardMultiplexer, gaussian_keys


@pytest.mark.parametrize(("norm", "length"), [(1.0, 1.0), (20.0, 20.0), (0.0, 32**0.5)])
def test_keys_have_the_requested_length_and_zero_means_the_root_of_the_hidden_size(norm, length):
    torch.manual_seed(0)

    keys = gaussian_keys(5, 32, norm)

    assert keys.shape == (5, 32)
    assert keys.norm(dim=1).numpy() == pytest.approx(length, rel=1e-5)


def test_multiplexing_is_the_mean_of_embeddings_scaled_by_their_keys():
    torch.manual_seed(0)
    mux = HadamardMultiplexer(3, 32, 0.0).double()
    embeddings = torch.randn(2, 3, 4, 32, dtype=torch.float64)

    mixed = mux(embeddings)

    expected = torch.zeros(2, 4, 32, dtype=torch.float64)
    for group in range(2):
        for position in range(4):
            for i in range(3):
                expected[group, position] += mux.keys[i] * embeddings[group, i, position] / 3
    torch.testing.assert_close(mixed, expected, atol=1e-12, rtol=0)


def test_multiplexing_is_linear():
    torch.manual_seed(0)
    mux = HadamardMultiplexer(3, 32, 1.0).double()
    first, second = torch.randn(2, 2, 3, 4, 32, dtype=torch.float64)

    together = mux(2 * first - 3 * second)

    torch.testing.assert_close(together, 2 * mux(first) - 3 * mux(second), atol=1e-12, rtol=0)


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
