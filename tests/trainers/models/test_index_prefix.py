import pytest
import torch
from torch.nn import functional as F

from trainers.models.index_prefix import IndexPrefixDemultiplexer, InstancePrefix


def make_demux(num_layers=2, hidden_size=24):
    torch.manual_seed(0)
    return IndexPrefixDemultiplexer(3, hidden_size, 32, num_layers, 1e-12).double()


def concatenated(demux, prefix, states):
    """First layer before its GELU, on the concatenation of prefix and text state."""
    weight = torch.cat([demux.key.weight, demux.state.weight], dim=1)  # (32, 24 + 24)
    both = torch.cat([prefix.expand_as(states), states], dim=-1)
    return F.linear(both, weight, demux.key.bias)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a_token_is_demultiplexed_with_the_prefix_state_of_its_instance(num_layers):
    demux = make_demux(num_layers)
    states = torch.randn(2, 3 + 5, 24, dtype=torch.float64)

    yielded = demux.tokens(states)

    assert yielded.shape == (2, 5, 3, 32)
    for i in range(3):
        first = concatenated(demux, states[:, i : i + 1], states[:, 3:])
        hidden = demux.norms[0](F.gelu(first))
        for layer, norm in zip(demux.layers, list(demux.norms)[1:], strict=True):
            hidden = norm(hidden + F.gelu(layer(hidden)))
        torch.testing.assert_close(yielded[:, :, i], hidden, atol=1e-12, rtol=0)


def test_a_sequence_is_read_from_the_first_position_of_the_text():
    demux = make_demux()
    states = torch.randn(2, 3 + 5, 24, dtype=torch.float64)

    yielded = demux.sequences(states)

    torch.testing.assert_close(yielded, demux.tokens(states)[:, 0], atol=1e-12, rtol=0)
    assert torch.equal(demux.sequences(states[:, :4]), yielded)


def test_chosen_tokens_equal_those_of_the_full_demultiplexing():
    demux = make_demux()
    states = torch.randn(2, 3 + 5, 24, dtype=torch.float64)
    groups, slots = torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 1, 1])
    places = torch.tensor([4, 0, 3, 2])

    yielded = demux.tokens(states, (groups, slots, places))

    expected = demux.tokens(states)[groups, places, slots]
    torch.testing.assert_close(yielded, expected, atol=1e-12, rtol=0)


def test_every_instance_has_its_token_at_its_own_place_and_the_filler_elsewhere(make_model):
    prefix = InstancePrefix(make_model(3).shape)

    embedded = prefix()

    assert embedded.shape == (3, 3, 32)
    for i in range(3):
        for place in range(3):
            row = i if place == i else 3
            assert torch.equal(embedded[i, place], prefix.tokens.weight[row])


def test_the_prefix_stands_before_the_text_whose_positions_stay(make_model, make_groups):
    model, batch = make_model(2, demultiplexer="index_prefix"), make_groups(2)
    embeddings = model.embeddings

    mixed = embeddings(batch, None)

    assert mixed.shape == (3, 2 + 9, 32)
    plain = make_model(2, demultiplexer="rsa")
    plain.embeddings.load_state_dict(embeddings.state_dict(), strict=False)
    torch.testing.assert_close(mixed[:, 2:], plain.embeddings(batch, None), atol=1e-12, rtol=0)
    prefix, keys = embeddings.prefix, embeddings.mux.keys
    for place in range(2):
        position = prefix.positions.weight[place]
        rows = [prefix.tokens.weight[i if place == i else 2] for i in range(2)]
        each = [embeddings.norm(row + position) for row in rows]
        mean = (keys[0] * each[0] + keys[1] * each[1]) / 2
        expected = embeddings.norm(mean + position + embeddings.token_types.weight[0])
        torch.testing.assert_close(mixed[1, place], expected, atol=1e-12, rtol=0)


def test_sequences_may_fill_the_whole_position_table(make_model, make_groups):
    model = make_model(5, demultiplexer="index_prefix")

    assert model(make_groups(5, length=16)).isfinite().all()


@pytest.mark.parametrize("num_instances", [2, 5])
def test_the_folded_table_of_inference_equals_the_path_of_training(
    make_model, make_groups, num_instances
):
    model = make_model(num_instances, demultiplexer="index_prefix", embed_mode="single_pass")
    batch = make_groups(num_instances)

    with torch.no_grad():
        folded = model(batch)

    assert model.embeddings._folded is not None
    torch.testing.assert_close(folded, model(batch), atol=1e-10, rtol=0)


def test_padding_is_masked_behind_an_open_prefix(make_model, make_groups):
    model, batch = make_model(2, demultiplexer="index_prefix"), make_groups(2)

    attended = model.attended(batch)

    assert attended[:, :2].all()
    assert torch.equal(attended[:, 2:], batch.attention_mask.any(dim=1))
    assert torch.equal(make_model(2).attended(batch), batch.attention_mask.any(dim=1))


def test_the_last_layer_is_computed_for_the_prefix_and_the_first_token_only(
    make_model, make_groups
):
    model, seen = make_model(3, demultiplexer="index_prefix"), []
    model.encoder.layers[-1].feedforward.register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].shape)
    )

    model(make_groups(3, num_groups=4, length=9))

    assert seen == [(4, 3 + 1, 32)]


def test_both_halves_of_the_first_layer_are_narrowed_by_compaction():
    demux = make_demux(hidden_size=5)

    assert demux.state.weight.shape == demux.key.weight.shape == (32, 5)
