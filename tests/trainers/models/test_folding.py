import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import (
    dtypes,
    groups_of,
    random_masks,
    random_model,
    seeds,
    shapes,
    sizes,
)

from trainers.models import folding
from trainers.models.compaction import compact
from trainers.models.muxed_bert import MuxedBert

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}
"""Of the largest logit."""

MODES = {
    "two_pass": {},
    "no_mask": {"mask_mode": "none"},
    "one_type": {"num_token_types": 1},
    "single_pass": {"embed_mode": "single_pass"},
    "learned": {"multiplexer": "learned_hadamard"},
    "prefix": {"demultiplexer": "index_prefix"},
    "prefix_single_pass": {"demultiplexer": "index_prefix", "embed_mode": "single_pass"},
}


def is_folded(model: MuxedBert) -> bool:
    return model.embeddings._asked is not None


def logits(model: MuxedBert, groups) -> torch.Tensor:
    with torch.no_grad():
        return model(groups)


def difference(found, expected) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(params=["own tables", "one table"])
def _tables(request, monkeypatch):
    if request.param == "one table":
        monkeypatch.setattr(folding, "LARGEST_TABLE", 0)
        monkeypatch.setattr(folding, "NUMBERS_IN_CACHE", 200)  # several blocks, the last smaller


def typed(groups, changes):
    return groups if "num_token_types" not in changes else one_type(groups)


def one_type(groups):
    return type(groups)(groups.input_ids, groups.attention_mask, 0 * groups.token_type_ids)


@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("num_instances", [2, 5, 10])
@pytest.mark.parametrize("changes", MODES.values(), ids=MODES)
def test_folded_models_have_the_logits_of_unfolded_ones(
    make_model, make_groups, num_instances, changes, dtype
):
    model = make_model(num_instances, dtype=dtype, **changes)
    groups = typed(make_groups(num_instances), changes)
    expected = logits(model, groups)

    model.fold(groups.input_ids.shape[-1])
    found = logits(model, groups)

    assert is_folded(model)
    assert difference(found, expected) < TOLERANCE[dtype]


@settings(max_examples=25, deadline=None)
@given(
    shape=shapes(widths=(2, 3, 5)),
    size=sizes(),
    dtype=dtypes(),
    seed=seeds(),
    closed=st.floats(0, 0.9),
    table=st.sampled_from([0, folding.LARGEST_TABLE]),
    cached=st.integers(20, 400),
    words=st.sampled_from(list(MODES.values())),
)
def test_folded_models_of_any_shape_have_the_logits_of_unfolded_ones(
    shape, size, dtype, seed, closed, table, cached, words
):
    shape = replace(shape, **words)
    masks = random_masks(shape, seed=seed, closed=closed, soft=True, dtype=dtype)
    model = compact(random_model(shape, seed=seed, dtype=dtype), masks)
    groups = typed(groups_of(shape, size, seed), words)
    expected = logits(model, groups)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "LARGEST_TABLE", table)
        patch.setattr(folding, "NUMBERS_IN_CACHE", cached)
        model.fold(size["length"])
        found = logits(model, groups)

    assert is_folded(model)
    assert difference(found, expected) < TOLERANCE[dtype]


@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize("changes", MODES.values(), ids=MODES)
def test_folded_models_stay_equal_after_compaction(make_model, make_groups, make_masks, changes):
    model = make_model(2, **changes)
    small = compact(model, make_masks(soft=True))
    groups = typed(make_groups(2), changes)
    expected = logits(small, groups)

    small.fold()
    found = logits(small, groups)

    assert small.shape.hidden_size < model.shape.hidden_size
    assert is_folded(small)
    assert difference(found, expected) < TOLERANCE[torch.float64]


def test_tables_are_right_where_tokens_and_positions_nearly_cancel(make_model, make_groups):
    model, groups = make_model(2, dtype=torch.float32), make_groups(2)
    with torch.no_grad():
        model.embeddings.token_types.weight.zero_()
        model.embeddings.tokens.weight[:] = -model.embeddings.positions.weight[3]
        model.embeddings.tokens.weight.add_(1e-3 * torch.randn(100, 32))
    exact = copy.deepcopy(model).double()
    expected = logits(exact, groups)

    model.fold()

    assert difference(logits(model, groups), expected) < 1e-3
    assert difference(logits(model, groups), expected) < 3 * difference(
        logits(copy.deepcopy(model).train().eval(), groups), expected
    )


def change_in_place(model):
    with torch.no_grad():
        model.embeddings.tokens.weight.mul_(1.5)


def change_norm(model):
    with torch.no_grad():
        model.embeddings.norm.bias.add_(0.3)


def load_others(model):
    state = {name: 1.1 * tensor for name, tensor in model.state_dict().items()}
    model.load_state_dict(state)


def train_one_step(model):
    optimizer = torch.optim.SGD([model.embeddings.positions.weight], lr=1.0)
    model.embeddings.positions.weight.grad = torch.ones_like(model.embeddings.positions.weight)
    optimizer.step()


def replace_table(model):
    model.embeddings.tokens.weight = torch.nn.Parameter(2 * model.embeddings.tokens.weight)


CHANGES = [change_in_place, change_norm, load_others, train_one_step, replace_table]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("embed_mode", ["two_pass", "single_pass"])
def test_tables_are_dropped_when_weights_change(make_model, make_groups, embed_mode, change):
    model, groups = make_model(2, embed_mode=embed_mode), make_groups(2)
    model.fold()
    before = logits(model, groups)

    change(model)
    found = logits(model, groups)

    fresh = make_model(2, embed_mode=embed_mode)
    fresh.load_state_dict(model.state_dict())
    assert not is_folded(model)
    assert torch.equal(found, logits(fresh, groups))
    assert not torch.equal(found, before)


def test_tables_are_dropped_by_training_and_by_a_move(make_model, make_groups):
    groups = make_groups(2)
    trained, moved = make_model(2), make_model(2)
    trained.fold()
    moved.fold()

    trained.train()
    moved.to(torch.float32)
    found = logits(moved, groups)

    assert not is_folded(trained)
    assert not is_folded(moved)
    assert found.dtype == torch.float32


def test_a_copy_does_not_read_the_tables_of_the_original(make_model, make_groups):
    model, groups = make_model(2), make_groups(2)
    model.fold()

    twin = copy.deepcopy(model)
    change_in_place(twin)

    assert not torch.equal(logits(twin, groups), logits(model, groups))
    assert is_folded(model)
    assert not is_folded(twin)


def test_tables_are_in_no_state_dict_and_no_gradient_passes_them(make_model, make_groups):
    model, groups = make_model(2, multiplexer="learned_hadamard"), make_groups(2)
    names = set(model.state_dict())
    model.fold()

    model(groups).sum().backward()

    assert set(model.state_dict()) == names
    assert model.embeddings.mux.keys.grad.abs().sum() > 0
    assert is_folded(model)


def test_longer_sequences_and_gates_do_not_read_the_tables(make_model, make_groups, make_masks):
    model, plain = make_model(2), make_model(2)
    groups, masks = make_groups(2, length=12), make_masks()
    model.fold(6)

    found = logits(model, groups)
    with torch.no_grad():
        gated, expected = model(groups, masks), plain(groups, masks)

    assert torch.equal(found, logits(plain, groups))
    assert torch.equal(gated, expected)
    assert is_folded(model)


@pytest.mark.parametrize(
    ("num_instances", "dtype", "changes"),
    [
        (1, torch.float32, {}),
        (2, torch.bfloat16, {}),
        (2, torch.float32, {"multiplexer": "contextual"}),
    ],
    ids=["one instance", "half precision", "contextual"],
)
def test_what_cannot_be_folded_stays_as_it_is(
    make_model, make_groups, num_instances, dtype, changes
):
    model, groups = make_model(num_instances, dtype=dtype, **changes), make_groups(num_instances)
    expected = logits(model, groups)

    model.fold()

    assert not is_folded(model)
    assert torch.equal(logits(model, groups), expected)


def test_scales_of_too_many_tokens_and_positions_are_not_made(
    make_model, make_groups, monkeypatch
):
    monkeypatch.setattr(folding, "LARGEST_SCALES", 100 * 2 * 9)  # V * S * T
    model, groups = make_model(2), make_groups(2)
    expected = logits(model, groups)

    model.fold(10)
    is_refused = not is_folded(model)
    model.fold(9)

    assert is_refused
    assert is_folded(model)
    assert difference(logits(model, groups), expected) < TOLERANCE[torch.float64]


def test_autocast_ignores_the_tables(make_model, make_groups):
    model, groups = make_model(2, dtype=torch.float32), make_groups(2)
    with torch.autocast("cpu", torch.bfloat16):
        expected = logits(model, groups)
        model.fold()
        found = logits(model, groups)

    assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("changes", MODES.values(), ids=MODES)
def test_folded_models_have_the_same_logits_on_cuda(make_model, make_groups, changes):
    device = torch.device("cuda")
    model = make_model(5, dtype=torch.float64, **changes).to(device)
    groups = typed(make_groups(5), changes).to(device)
    expected = logits(model, groups)

    model.fold()

    assert difference(logits(model, groups), expected) < TOLERANCE[torch.float64]
