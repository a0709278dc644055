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
from torch import nn

from trainers.models import encoder
from trainers.models.compaction import compact
from trainers.models.encoder import Encoder, add_linear, attend, linear, masked_layer_norm
from trainers.models.masks import masks_to, open_masks


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds(),
    size=st.integers(2, 40),
    closed=st.floats(0, 0.9),
    rows=st.lists(st.integers(1, 4), max_size=3),
    dtype=dtypes(has_half=True),
)
def test_masked_layer_norm_equals_the_layer_norm_of_the_sub_vector(
    seed, size, closed, rows, dtype
):
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes):
        return torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype)

    norm = nn.LayerNorm(size, eps=1e-12, dtype=dtype)
    with torch.no_grad():
        norm.weight.copy_(draw(size))
        norm.bias.copy_(draw(size))
    hidden = (torch.rand(size, generator=generator) + 0.1).to(dtype)
    hidden *= torch.rand(size, generator=generator) >= closed
    hidden[:2] = 0.5
    keep = hidden != 0
    x = draw(*rows, size) * keep

    normed = masked_layer_norm(x, norm, hidden)

    expected = torch.zeros_like(x)
    inner = nn.functional.layer_norm(
        x[..., keep], (int(keep.sum()),), norm.weight[keep], norm.bias[keep], 1e-12
    )
    expected[..., keep] = hidden[keep] * inner
    # Two dimensions that are nearly equal have a variance that is mostly rounding.
    exact = {torch.float64: 1e-9, torch.float32: 1e-2, torch.bfloat16: 0.2}
    assert normed.dtype == dtype
    torch.testing.assert_close(normed, expected, atol=exact[dtype], rtol=exact[dtype])


def test_masked_layer_norm_without_an_open_dimension_yields_zeros_not_nan():
    norm = nn.LayerNorm(4)

    normed = masked_layer_norm(torch.zeros(2, 4), norm, torch.zeros(4))

    assert torch.equal(normed, torch.zeros(2, 4))


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), size=sizes(), dtype=dtypes(has_half=True), seed=seeds())
def test_masks_of_ones_change_nothing(shape, size, dtype, seed):
    model, batch = random_model(shape, seed=seed, dtype=dtype), groups_of(shape, size, seed)
    masks = masks_to(open_masks(shape), model.embeddings.tokens.weight)

    gated, free = model.encode(batch, masks), model.encode(batch)

    assert all(torch.equal(one, other) for one, other in zip(gated, free, strict=True))
    assert torch.equal(model(batch, masks), model(batch))


def test_a_norm_whose_gates_are_all_open_has_the_gradients_of_the_closed_form(monkeypatch):
    torch.manual_seed(0)
    norm = nn.LayerNorm(9, dtype=torch.float64)
    inputs = [torch.randn(4, 9, dtype=torch.float64), torch.rand(9, dtype=torch.float64) + 0.1]
    results = []
    for is_closed_form in (False, True):
        if is_closed_form:
            monkeypatch.setattr(encoder, "is_all", lambda mask: False)
        x, hidden = (tensor.clone().requires_grad_() for tensor in inputs)
        normed = masked_layer_norm(x, norm, hidden)
        gradients = torch.autograd.grad(normed.sin().sum(), [x, hidden, *norm.parameters()])
        results.append([normed, *gradients])

    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-10, rtol=1e-9)


def test_an_encoder_yields_the_states_after_every_layer(make_model):
    encoder = make_model().encoder
    states = torch.randn(2, 5, 32, dtype=torch.float64)

    outputs = encoder(states, None)

    assert len(outputs) == 3
    assert torch.equal(outputs[1], encoder.layers[1](encoder.layers[0](states, None), None))


def test_layers_compacted_away_pass_states_on_unchanged(tiny_shape, make_model):
    shape = make_model(head_counts=(0, 2, 0), feedforward_sizes=(0, 3, 0)).shape
    encoder = Encoder(shape).double()
    states = torch.randn(2, 5, 32, dtype=torch.float64)

    first, second, third = encoder(states, None)

    assert torch.equal(first, states)
    assert torch.equal(third, second)
    assert not torch.equal(second, first)


def test_padding_positions_do_not_influence_the_others(make_model):
    encoder = make_model().encoder
    states = torch.randn(1, 6, 32, dtype=torch.float64)
    changed = states.clone()
    changed[:, 4:] += 1.0
    attend = torch.tensor([[True, True, True, True, False, False]])

    before, after = (encoder(s, attend)[-1][:, :4] for s in (states, changed))

    assert torch.equal(before, after)
    assert not torch.equal(encoder(states, None)[-1][:, :4], encoder(changed, None)[-1][:, :4])


@pytest.mark.parametrize("is_masked", [True, False])
def test_attention_in_bfloat16_agrees_with_float32_forward_and_backward(is_masked):
    torch.manual_seed(0)
    exact = torch.randn(3, 2, 4, 9, 8, requires_grad=True)
    rounded = exact.detach().bfloat16().requires_grad_()
    mask = torch.arange(9) < torch.tensor([9, 3])[:, None, None, None] if is_masked else None

    results = []
    for inputs in (exact, rounded):
        context = attend(*inputs, mask)
        context.square().sum().backward()
        results.append((context.float(), inputs.grad.float()))

    (context, gradient), (context16, gradient16) = results
    assert torch.equal(context16, context16.bfloat16().float())
    torch.testing.assert_close(context16, context, atol=0.02, rtol=0.02)
    torch.testing.assert_close(gradient16, gradient, atol=0.06, rtol=0.05)
    if is_masked:
        assert not rounded.grad[1:, 1, :, 3:].any()


@pytest.mark.parametrize("heads", [(4, 4, 4), (4, 2, 0), (0, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("num_positions", [1, 3])
def test_the_first_positions_alone_are_computed_as_among_all(
    make_model, heads, is_padded, num_positions
):
    encoder = make_model(head_counts=heads, feedforward_sizes=(64, 0, 7)).encoder
    states = torch.randn(3, 6, 32, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [4], [1]]) if is_padded else None

    first = encoder.first_states(states, mask, num_positions)

    assert first.shape == (3, num_positions, 32)
    expected = encoder(states, mask)[-1][:, :num_positions]
    torch.testing.assert_close(first, expected, atol=1e-12, rtol=0)


@settings(max_examples=20, deadline=None)
@given(
    shape=shapes(),
    size=sizes(),
    dtype=dtypes(has_half=True),
    seed=seeds(),
    closed=st.floats(0, 0.9),
    num_positions=st.integers(1, 2),
)
def test_the_first_positions_of_any_compacted_model_are_computed_as_among_all(
    shape, size, dtype, seed, closed, num_positions
):
    model = random_model(shape, seed=seed, dtype=dtype)
    small = compact(model, random_masks(shape, seed=seed, closed=closed, dtype=dtype))
    batch = groups_of(shape, size, seed)
    states = torch.randn(*batch.input_ids[:, 0].shape, small.shape.hidden_size).to(dtype)
    mask = batch.attention_mask.any(dim=1)

    first = small.encoder.first_states(states, mask, num_positions)

    expected = small.encoder(states, mask)[-1][:, :num_positions]
    assert difference(first, expected) < TOLERANCES[dtype]
    assert difference(small(batch), small.classify(small.encode(batch)[-1])) < TOLERANCES[dtype]


def test_a_model_computes_its_last_layer_for_the_first_position_only(make_model, make_groups):
    model = make_model(2)
    seen = []
    model.encoder.layers[-1].feedforward.register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].shape)
    )

    model(make_groups(2, num_groups=3, length=9))

    assert seen == [(3, 1, 32)]


@pytest.mark.parametrize("num_outputs", [8, 33, 37, 40, 155])
@pytest.mark.parametrize("num_rows", [1, 127, 128, 300])
def test_uneven_products_are_the_same_in_inference(num_outputs, num_rows):
    layer, states = nn.Linear(21, num_outputs), torch.randn(2, num_rows, 21)

    with torch.inference_mode():
        found = linear(states, layer)

    assert found.shape == (2, num_rows, num_outputs)
    assert torch.allclose(found, layer(states), rtol=1e-6, atol=1e-6)


def test_uneven_products_keep_their_gradients():
    layer, states = nn.Linear(21, 37), torch.randn(300, 21, requires_grad=True)

    linear(states, layer).sum().backward()

    assert torch.allclose(states.grad, layer.weight.sum(dim=0).expand_as(states), atol=1e-5)


@pytest.mark.parametrize("num_outputs", [40, 37])
@pytest.mark.parametrize("num_rows", [2, 150])
def test_a_residual_product_is_the_same_in_inference_and_changes_no_input(num_outputs, num_rows):
    layer, dropout = nn.Linear(21, num_outputs), nn.Dropout(0.1).eval()
    inner, states = torch.randn(2, num_rows, 21), torch.randn(2, 2 * num_rows, num_outputs)
    before = states.clone()
    kept = states[:, :num_rows]

    with torch.inference_mode():
        found = add_linear(kept, inner, layer, dropout)

    assert torch.equal(states, before)
    assert torch.allclose(found, kept + layer(inner), rtol=1e-5, atol=1e-5)


def test_autocast_keeps_its_products_in_inference():
    layer, dropout = nn.Linear(21, 40), nn.Dropout(0.1).eval()
    inner, states = torch.randn(2, 150, 21), torch.randn(2, 150, 40)

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = add_linear(states, inner, layer, dropout)
        expected = states + layer(inner)

    assert torch.equal(found, expected)
