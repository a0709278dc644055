from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import (
    TOLERANCES,
    difference,
    dtypes,
    groups_of,
    random_masks,
    random_model,
    seeds,
    shapes,
    sizes,
)

from trainers.errors import ShapeError
from trainers.models.compaction import compact, compacted_shape
from trainers.models.masks import Masks, masks_to, open_masks


def largest_difference(model, masks, batch):
    """Largest difference of the logits, relative to their spread."""
    with torch.no_grad():
        return difference(compact(model, masks)(batch), model(batch, masks))


def check_compaction(model, masks, batch):
    """Check a model of any dtype against its masked self.

    Logits of half precision cannot tell: their rounding, over a spread that may be as small, is
    larger than what a mistake would change. So its weights are compared with those of double
    precision, up to three roundings by 2^-8 and one of what is wanted, and the latter's logits.
    """
    dtype = model.embeddings.tokens.weight.dtype
    if dtype == torch.bfloat16:
        small = compact(model, masks)
        with torch.no_grad():
            assert small(batch).isfinite().all()
        model, masks = deepcopy(model).double(), in_double(masks)
        exact = compact(model, masks).state_dict()
        for name, weight in small.state_dict().items():
            torch.testing.assert_close(weight, exact[name].to(dtype), rtol=4 * 2**-8, atol=0.0)
        dtype = torch.float64
    assert largest_difference(model, masks, batch) < TOLERANCES[dtype]


def in_double(masks):
    return Masks(**{name: gate.double() for name, gate in vars(masks).items()})


@pytest.mark.parametrize("embed_mode", ["two_pass", "single_pass"])
@pytest.mark.parametrize("num_instances", [1, 2, 5])
@pytest.mark.parametrize("soft", [False, True])
def test_compacted_model_equals_the_masked_one(
    make_model, make_groups, make_masks, embed_mode, num_instances, soft
):
    model = make_model(num_instances, embed_mode=embed_mode)
    batch = make_groups(num_instances)

    assert largest_difference(model, make_masks(soft=soft), batch) < 1e-10


@settings(max_examples=40, deadline=None)
@given(
    shape=shapes(),
    size=sizes(),
    dtype=dtypes(has_half=True),
    seed=seeds(),
    closed=st.floats(0.0, 0.95),
    soft=st.booleans(),
)
def test_compacted_model_equals_the_masked_one_for_any_gates(
    shape, size, dtype, seed, closed, soft
):
    model = random_model(shape, seed=seed, dtype=dtype)
    masks = random_masks(shape, seed=seed, closed=closed, soft=soft, dtype=dtype)

    check_compaction(model, masks, groups_of(shape, size, seed))


@pytest.mark.parametrize("closed", ["head_layers", "heads", "feedforward_layers", "intermediate"])
@pytest.mark.parametrize("num_instances", [1, 2])
def test_skipped_layers_are_skipped_by_both_models(make_model, make_groups, num_instances, closed):
    model = make_model(num_instances)
    masks = masks_to(open_masks(model.shape), model.embeddings.tokens.weight)
    getattr(masks, closed)[1] = 0  # the layer's gate, or all units of an open layer

    assert largest_difference(model, masks, make_groups(num_instances)) < 1e-10
    shape = compacted_shape(model.shape, masks)
    is_attention = closed in ("head_layers", "heads")
    assert shape.head_counts == ((4, 0, 4) if is_attention else (4, 4, 4))
    assert shape.feedforward_sizes == ((64, 64, 64) if is_attention else (64, 0, 64))


@settings(max_examples=15, deadline=None)
@given(
    shape=shapes(),
    size=sizes(),
    dtype=dtypes(has_half=True),
    seed=seeds(),
    closed=st.sampled_from(["head_layers", "heads", "feedforward_layers", "intermediate"]),
)
def test_a_skipped_layer_of_any_model_is_skipped_by_both(shape, size, dtype, seed, closed):
    model = random_model(shape, seed=seed, dtype=dtype)
    masks = random_masks(shape, seed=seed, closed=0.2, soft=True, dtype=dtype)
    layer = seed % shape.num_layers
    getattr(masks, closed)[layer] = 0

    check_compaction(model, masks, groups_of(shape, size, seed))
    left = compacted_shape(shape, masks)
    is_attention = closed in ("head_layers", "heads")
    assert (left.head_counts if is_attention else left.feedforward_sizes)[layer] == 0


def test_a_closed_layer_and_a_layer_of_closed_heads_are_the_same(make_model, make_groups):
    model, batch = make_model(), make_groups()
    masks = masks_to(open_masks(model.shape), model.embeddings.tokens.weight)
    by_layer = replace(masks, head_layers=torch.tensor([1.0, 0.0, 1.0]).double())
    by_heads = replace(masks, heads=masks.heads * torch.tensor([[1.0], [0.0], [1.0]]))

    assert torch.equal(model(batch, by_layer), model(batch, by_heads))


def test_an_encoder_without_any_layer_left_still_equals_the_masked_one(make_model, make_groups):
    model = make_model(2)
    masks = masks_to(open_masks(model.shape), model.embeddings.tokens.weight)
    masks.head_layers.zero_()
    masks.feedforward_layers.zero_()

    assert largest_difference(model, masks, make_groups(2)) < 1e-10
    assert compact(model, masks).shape.num_encoder_parameters == 0


def test_compaction_leaves_the_dense_model_as_it_was(make_model, make_masks):
    model = make_model(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    compact(model, make_masks(soft=True))

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_open_masks_compact_to_the_same_weights(make_model):
    model = make_model(2)
    masks = masks_to(open_masks(model.shape), model.embeddings.tokens.weight)

    small = compact(model, masks)

    assert small.shape == model.shape
    assert all(torch.equal(t, model.state_dict()[k]) for k, t in small.state_dict().items())


def test_the_compacted_model_is_smaller_and_in_evaluation_mode(make_model, make_masks):
    model = make_model(2)

    small = compact(model.train(), make_masks(closed=0.5))

    assert not small.training
    sizes = [sum(p.numel() for p in m.parameters()) for m in (small, model)]
    assert sizes[0] < 0.8 * sizes[1]


def test_the_demultiplexer_and_the_head_keep_their_dense_width(make_model, make_masks):
    masks = make_masks(closed=0.5)

    small = compact(make_model(2), masks)

    num_kept = int((masks.hidden != 0).sum())
    assert small.demux.state.weight.shape == (32, num_kept)
    assert small.demux.keys.shape == (2, 32)
    assert small.sequence_head.output.weight.shape == (2, 32)


def test_closing_every_hidden_dimension_is_refused(make_model, make_masks):
    masks = replace(make_masks(), hidden=torch.zeros(32, dtype=torch.float64))

    with pytest.raises(ShapeError, match="close all hidden dimensions"):
        compact(make_model(), masks)


def change(masks, name, keep):
    return replace(masks, **{name: getattr(masks, name)[keep]})


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("hidden", r"\(32,\)", r"\(31,\)"),
        ("heads", r"\(3, 4\)", r"\(2, 4\)"),
        ("head_layers", r"\(3,\)", r"\(2,\)"),
        ("intermediate", r"\(3, 64\)", r"\(2, 64\)"),
        ("feedforward_layers", r"\(3,\)", r"\(2,\)"),
    ],
)
def test_masks_of_another_shape_are_refused(
    make_model, make_groups, make_masks, name, size, found
):
    model, masks = make_model(2), change(make_masks(), name, slice(1, None))

    message = f"`{name}` of the masks must have the shape {size}, got {found}"
    with pytest.raises(ShapeError, match=message):
        model.encode(make_groups(2), masks)
    with pytest.raises(ShapeError, match=message):
        compact(model, masks)


def test_a_compacted_model_takes_no_gates(make_model, make_groups, make_masks):
    small = compact(make_model(2), make_masks())

    message = r"compacted already \(sparsity 0\.\d\d\); use the model that it was made from"
    with pytest.raises(ShapeError, match=message):
        small.encode(make_groups(2), open_masks(small.shape))
    with pytest.raises(ShapeError, match=message):
        compact(small, make_masks())
