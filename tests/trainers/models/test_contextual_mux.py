from dataclasses import replace

import pytest
import torch

from trainers.models.contextual_mux import ContextualMultiplexer


@pytest.fixture
def mux(tiny_shape):
    torch.manual_seed(0)
    built = ContextualMultiplexer(replace(tiny_shape, num_instances=3, multiplexer="contextual"))
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name != "keys":
                parameter.add_(0.1 * torch.randn_like(parameter))
    return built.double().eval()


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("is_padded", [False, True])
def test_mixing_equals_the_loop_over_sequences_and_then_over_positions(mux, is_padded):
    embeddings, mask = draw(2, 3, 5, 32), None
    if is_padded:
        mask = torch.arange(5) < torch.tensor([[5, 2, 3], [4, 1, 4]])[..., None]

    mixed = mux(embeddings, mask, None)

    for group in range(2):
        keyed = []
        for i, sequence in enumerate(embeddings[group]):
            attend = None if mask is None else mask[group, i][None, None, None]
            contextual = mux.sequence_layer(sequence[None], attend)[0] + sequence
            keyed.append(contextual * mux.keys[i])
        for t in range(4):  # of group 1, the last position is padding in all instances
            instances = torch.stack([states[t] for states in keyed])
            attend = None if mask is None else mask[group, :, t][None, None, None]
            across = mux.instance_layer(instances[None], attend)[0] + instances
            torch.testing.assert_close(mixed[group, t], across.mean(dim=0), atol=1e-12, rtol=0)


def test_padding_of_an_instance_is_read_at_its_own_position_only(mux):
    embeddings = draw(1, 3, 5, 32)
    mask = torch.arange(5) < torch.tensor([[5, 3, 5]])[..., None]
    changed = embeddings.clone()
    changed[0, 1, 3] += 1

    before, after = (mux(e, mask, None)[0] for e in (embeddings, changed))

    assert (before != after).any(dim=-1).tolist() == [False, False, False, True, False]
    unmasked = [mux(e, None, None)[0] for e in (embeddings, changed)]
    assert (unmasked[0] != unmasked[1]).any(dim=-1).all()


def test_positions_of_padding_alone_are_finite_and_change_no_other(mux):
    embeddings = draw(1, 3, 5, 32)
    mask = torch.arange(5) < torch.tensor([[3, 2, 3]])[..., None]

    mixed = mux(embeddings, mask, None)

    assert mixed.isfinite().all()
    shorter = mux(embeddings[:, :, :3], mask[:, :, :3], None)
    torch.testing.assert_close(mixed[:, :3], shorter, atol=1e-12, rtol=0)


def test_gated_mixtures_are_zero_where_the_gate_is_and_do_not_read_there(mux):
    hidden = (torch.arange(32) % 3 > 0).double() * 0.7
    embeddings = draw(1, 3, 5, 32) * hidden

    mixed = mux(embeddings, None, hidden)

    assert not mixed[..., hidden == 0].any()
    assert (mixed[..., hidden > 0] != 0).all()


def test_keys_are_saved_but_never_trained_and_everything_else_is(mux):
    assert "keys" in mux.state_dict()
    assert {n for n, p in mux.named_parameters() if not p.requires_grad} == {"keys"}
