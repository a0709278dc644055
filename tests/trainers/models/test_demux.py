import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import TOLERANCES, difference, dtypes, seeds
from torch.nn import functional as F

from trainers.models.demux import RsaDemultiplexer


def make_demux(num_instances=3, hidden_size=24, num_layers=2):
    torch.manual_seed(0)
    return RsaDemultiplexer(num_instances, hidden_size, 32, num_layers, 1e-12).double()


@settings(max_examples=25, deadline=None)
@given(
    num_instances=st.sampled_from([2, 3, 5, 10]),
    hidden_size=st.integers(1, 40),
    dense_size=st.sampled_from([8, 32]),
    num_layers=st.integers(1, 3),
    size=st.tuples(st.integers(1, 3), st.integers(1, 5)),
    dtype=dtypes(has_half=True),
    seed=seeds(),
)
def test_cached_keys_equal_the_concatenation_of_key_and_state(
    num_instances, hidden_size, dense_size, num_layers, size, dtype, seed
):
    torch.manual_seed(seed)
    demux = RsaDemultiplexer(num_instances, hidden_size, dense_size, num_layers, 1e-12).to(dtype)
    states = torch.randn(*size, hidden_size).to(dtype)

    yielded = demux(states)

    weight = torch.cat([demux.key.weight, demux.state.weight], dim=1)  # (dense, dense + hidden)
    for i in range(num_instances):
        keys = demux.keys[i].expand(*size, dense_size)
        first = F.linear(torch.cat([keys, states], dim=-1), weight, demux.key.bias)
        hidden = demux.norms[0](F.gelu(first))
        for layer, norm in zip(demux.layers, list(demux.norms)[1:], strict=True):
            hidden = norm(hidden + F.gelu(layer(hidden)))
        assert difference(yielded[:, :, i], hidden) < TOLERANCES[dtype]


def test_single_slots_equal_those_of_the_full_demultiplexing():
    demux = make_demux()
    states = torch.randn(7, 24, dtype=torch.float64)
    slots = torch.tensor([0, 1, 2, 2, 1, 0, 1])

    yielded = demux(states, slots)

    expected = demux(states)[torch.arange(7), slots]
    torch.testing.assert_close(yielded, expected, atol=1e-12, rtol=0)


def test_instances_differ_only_by_their_keys():
    demux = make_demux()
    states = torch.randn(4, 24, dtype=torch.float64)
    before = demux(states)

    with torch.no_grad():
        demux.keys.copy_(demux.keys[torch.tensor([0, 0, 1])])

    after = demux(states)
    assert torch.equal(after[:, 0], after[:, 1])
    assert torch.equal(after[:, 2], before[:, 1])
    assert not torch.allclose(before[:, 0], before[:, 1])


def test_compaction_narrows_the_states_but_not_the_keys():
    demux = make_demux(hidden_size=5)

    assert demux.state.weight.shape == (32, 5)
    assert demux.keys.shape == (3, 32)
    assert demux(torch.randn(2, 5, dtype=torch.float64)).shape == (2, 3, 32)
