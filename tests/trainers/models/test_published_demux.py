import pytest
import torch
from torch.nn import functional as F

from trainers.errors import ShapeError
from trainers.models.published_demux import PublishedRsaDemultiplexer


def make_demux(num_layers=3, hidden_size=24, dropout=0.0):
    torch.manual_seed(0)
    demux = PublishedRsaDemultiplexer(3, hidden_size, 32, num_layers, 1e-12, dropout).double()
    with torch.no_grad():
        for parameter in demux.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return demux


def concatenated(demux, states, instance):
    """First layer before its GELU, on the concatenation of key and state, key first."""
    keys = demux.keys[instance].expand(*states.shape[:-1], 32)
    weight = torch.cat([demux.key.weight, demux.state.weight], dim=1)  # (32, 32 + 24)
    return F.linear(torch.cat([keys, states], dim=-1), weight, demux.key.bias)


@pytest.mark.parametrize("num_layers", [2, 3, 4])
def test_tokens_take_two_normalised_layers_without_skips_at_any_depth(num_layers):
    demux = make_demux(num_layers)
    states = torch.randn(2, 5, 24, dtype=torch.float64)

    yielded = demux.tokens(states)

    for i in range(3):
        hidden = demux.norms[0](F.gelu(concatenated(demux, states, i)))
        hidden = demux.norms[1](F.gelu(demux.layers[0](hidden)))
        torch.testing.assert_close(yielded[:, :, i], hidden, atol=1e-12, rtol=0)


@pytest.mark.parametrize("num_layers", [2, 3, 4])
def test_sequences_take_skips_and_a_last_layer_of_their_own_with_the_only_norm(num_layers):
    demux = make_demux(num_layers)
    states = torch.randn(2, 5, 24, dtype=torch.float64)

    yielded = demux.sequences(states)

    assert yielded.shape == (2, 3, 32)
    for i in range(3):
        hidden = F.gelu(concatenated(demux, states[:, 0], i))
        for layer in list(demux.layers)[: num_layers - 2]:
            hidden = hidden + F.gelu(layer(hidden))
        last = demux.sequence_norm(F.gelu(demux.sequence_layer(hidden)))
        torch.testing.assert_close(yielded[:, i], hidden + last, atol=1e-12, rtol=0)


def test_chosen_tokens_equal_those_of_the_full_demultiplexing():
    demux = make_demux()
    states = torch.randn(2, 5, 24, dtype=torch.float64)
    groups, slots = torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 1, 1])
    places = torch.tensor([4, 0, 3, 2])

    yielded = demux.tokens(states, (groups, slots, places))

    expected = demux.tokens(states)[groups, places, slots]
    torch.testing.assert_close(yielded, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("num_layers", "num_dropped"), [(2, 1), (3, 2), (4, 3)])
def test_dropout_follows_every_layer_of_sequences_but_the_last_and_none_of_tokens(
    num_layers, num_dropped
):
    demux = make_demux(num_layers, dropout=0.5).train()
    states, calls = torch.randn(2, 5, 24, dtype=torch.float64), []
    demux.dropout.register_forward_hook(lambda *arguments: calls.append(arguments))

    demux.sequences(states)
    assert len(calls) == num_dropped

    assert torch.equal(demux.tokens(states), demux.tokens(states))
    assert len(calls) == num_dropped


def test_a_single_layer_is_refused():
    with pytest.raises(ShapeError, match="2 layers or more, got 1"):
        make_demux(num_layers=1)
