import math
from dataclasses import replace

import pytest
import torch

from trainers.models.compaction import compact
from trainers.models.masks import (
    LOG_ALPHA_LIMIT,
    Gates,
    Lagrangian,
    Masks,
    open_masks,
    open_probability,
    sample_gate,
    weight_count,
)
from trainers.phase_config import GATE_KINDS

BERT_BASE = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "dense_hidden_size": 768,
    "head_size": 64,
    "head_counts": (12,) * 12,
    "feedforward_sizes": (3072,) * 12,
    "dense_num_heads": 12,
    "dense_feedforward_size": 3072,
    "max_positions": 512,
}


def counted_weights(model):
    """Count what the two-dimensional weights of the encoder hold, one tensor after the other."""
    return sum(p.numel() for p in model.encoder.parameters() if p.ndim == 2)


# Means and probabilities of the hard-concrete distribution, reference table of section 4.1.
@pytest.mark.parametrize(
    ("log_alpha", "probability", "mean"),
    [
        (4.605, 0.9980, 0.987),
        (2.0, 0.973, 0.857),
        (0.0, 0.832, 0.500),
        (-1.599, 0.500, 0.19),
        (-4.605, 0.0471, 0.013),
    ],
)
def test_sampled_gates_have_the_hard_concrete_probability_and_mean(log_alpha, probability, mean):
    draws = sample_gate(torch.full((100_000,), log_alpha), torch.Generator().manual_seed(0))

    assert float((draws > 0).double().mean()) == pytest.approx(probability, abs=5e-3)
    assert float(draws.mean()) == pytest.approx(mean, abs=5e-3)
    assert draws.min() >= 0
    assert draws.max() <= 1


def test_open_probability_is_the_shifted_sigmoid():
    log_alpha = torch.linspace(-4.6, 4.6, 11, dtype=torch.float64)

    expected = 1 / (1 + torch.exp(-(log_alpha + 1.5986)))

    torch.testing.assert_close(open_probability(log_alpha), expected, atol=1e-5, rtol=0)


def test_sampled_gates_carry_gradients_to_their_parameters():
    log_alpha = torch.zeros(50, requires_grad=True)

    sample_gate(log_alpha, torch.Generator().manual_seed(0)).sum().backward()

    assert (log_alpha.grad > 0).any()
    assert (log_alpha.grad >= 0).all()


def test_new_gates_are_open_with_probability_of_99_percent(tiny_shape):
    with torch.no_grad():
        probabilities = Gates(tiny_shape).probabilities()

    for values in vars(probabilities).values():
        assert values.numpy() == pytest.approx(0.99, abs=1e-3)


def test_clamping_keeps_parameters_within_log_100(make_gates):
    gates = make_gates(seed=0, spread=100.0)

    gates.clamp_()

    largest = max(float(p.detach().abs().max()) for p in gates.parameters())
    assert largest == pytest.approx(math.log(100)) == LOG_ALPHA_LIMIT


def test_the_same_generator_seed_draws_the_same_gates(make_gates):
    gates = make_gates(seed=1)

    first, second, other = (
        gates.sample(torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )

    assert torch.equal(first.intermediate, second.intermediate)
    assert not torch.equal(first.intermediate, other.intermediate)


def test_a_layer_whose_gate_is_zero_is_skipped(tiny_shape):
    masks = open_masks(tiny_shape)
    masks.head_layers[1] = 0
    masks.feedforward_layers[2] = 0

    assert masks.skips_attention.tolist() == [False, True, False]
    assert masks.skips_feedforward.tolist() == [False, False, True]


def test_an_open_layer_without_any_open_unit_is_skipped(tiny_shape):
    masks = open_masks(tiny_shape)
    masks.heads[0] = 0
    masks.intermediate[1] = 0
    masks.intermediate[2, 1:] = 0

    assert masks.skips_attention.tolist() == [True, False, False]
    assert masks.skips_feedforward.tolist() == [False, True, False]


def test_bert_base_has_84934656_prunable_weights(tiny_shape):
    shape = replace(tiny_shape, **BERT_BASE)

    assert shape.num_prunable_parameters == 84_934_656
    assert shape.num_encoder_parameters == 84_934_656
    assert shape.sparsity == 0.0
    assert weight_count(shape, "weights").remaining(open_masks(shape)) == 84_934_656


def test_the_published_convention_has_its_constants_for_bert_base(tiny_shape):
    count = weight_count(replace(tiny_shape, **BERT_BASE), "cofi")
    remaining = float(count.remaining(open_masks(replace(tiny_shape, **BERT_BASE))))

    assert count.total == 85_017_600
    assert 1 - remaining / count.total == pytest.approx(0.000542, abs=5e-7)


def test_the_published_convention_counts_the_biases_of_attention(make_gates, tiny_shape):
    gates = make_gates(seed=3, convention="cofi")
    p = gates.probabilities()

    remaining = 0.0
    for layer in range(3):
        for hidden in p.hidden:
            heads = p.head_layers[layer] * p.heads[layer].sum() * 4 * 8 * 33 / 32
            units = p.feedforward_layers[layer] * p.intermediate[layer].sum() * 2
            remaining += float((hidden * (heads + units)).detach())

    biases = 3 * (4 * 32 + 64 + 32)  # of attention, of its units and outputs
    expected = 1 - remaining / (tiny_shape.num_prunable_parameters + biases)
    assert float(gates.expected_sparsity().detach()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", GATE_KINDS)
def test_what_has_no_gate_stays_open(make_gates, kind):
    kinds = [other for other in GATE_KINDS if other != kind]
    gates = make_gates(seed=0, kinds=kinds)

    sampled = gates.sample(torch.Generator().manual_seed(0))

    assert {name for name, _ in gates.named_parameters()} == set(kinds)
    assert getattr(sampled, kind).eq(1).all()
    assert getattr(gates.probabilities(), kind).eq(1).all()
    assert all(getattr(sampled, other).lt(1).any() for other in kinds)
    assert gates.state_dict().keys() == set(kinds)


def test_the_dense_count_equals_the_matrices_of_the_encoder(tiny_shape, make_model):
    assert counted_weights(make_model()) == tiny_shape.num_prunable_parameters


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("closed", [0.2, 0.6])
def test_expected_size_of_binary_gates_equals_the_counted_weights(
    tiny_shape, make_model, make_masks, seed, closed
):
    counted = weight_count(tiny_shape, "weights")
    masks = make_masks(seed=seed, closed=closed)

    small = compact(make_model(), masks)

    assert int(counted.remaining(masks)) == counted_weights(small)
    assert small.shape.num_encoder_parameters == counted_weights(small)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("closed", [0.0, 0.2, 0.6])
def test_expected_size_of_binary_gates_by_the_published_formula_is_that_of_the_survivors(
    tiny_shape, make_model, make_masks, seed, closed
):
    """Weight by weight; the biases of a head, 4 x 8, are spread over its hidden dimensions."""
    counted = weight_count(tiny_shape, "cofi")
    masks = make_masks(seed=seed, closed=closed)
    small = compact(make_model(), masks)

    survivors = 0.0
    share = len(small.embeddings.norm.weight) / 32
    for layer in small.encoder.layers:
        for module in (layer.attention, layer.feedforward):
            if module is not None:
                survivors += sum(p.numel() for p in module.parameters() if p.ndim == 2)
        if layer.attention is not None:
            asked = layer.attention.query_key_value.bias.numel()  # of queries, keys and values
            survivors += share * (asked + asked / 3)

    assert float(counted.remaining(masks)) == pytest.approx(survivors, rel=1e-12)
    if closed == 0:
        assert float(counted.remaining(masks)) < counted.total  # the other biases


def test_expected_sparsity_is_that_of_the_open_probabilities(make_gates, tiny_shape):
    gates = make_gates(seed=3)
    with torch.no_grad():
        p = gates.probabilities()

    remaining = 0.0
    for layer in range(3):
        for hidden in p.hidden:
            heads = p.head_layers[layer] * p.heads[layer].sum() * 4 * 8
            units = p.feedforward_layers[layer] * p.intermediate[layer].sum() * 2
            remaining += float(hidden * (heads + units))

    expected = 1 - remaining / tiny_shape.num_prunable_parameters
    assert float(gates.expected_sparsity().detach()) == pytest.approx(expected, abs=1e-5)


def test_expected_sparsity_is_the_mean_over_sampled_gates(make_gates, tiny_shape):
    gates = make_gates(seed=4, spread=2.0)
    generator = torch.Generator().manual_seed(0)

    remaining = []
    for _ in range(400):
        sampled = vars(gates.sample(generator))
        is_open = Masks(**{name: (gate > 0).float() for name, gate in sampled.items()})
        remaining.append(float(gates.count.remaining(is_open)))

    mean = 1 - sum(remaining) / len(remaining) / tiny_shape.num_prunable_parameters
    assert float(gates.expected_sparsity().detach()) == pytest.approx(mean, abs=5e-3)


def test_the_multipliers_rise_with_too_much_sparsity_and_fall_with_too_little():
    multipliers = {}
    for sparsity in (0.3, 0.7):
        lagrangian = Lagrangian()
        ascent = torch.optim.Adam(lagrangian.parameters(), lr=0.1, maximize=True)
        lagrangian(torch.tensor(sparsity), 0.5).backward()
        gradient = float(lagrangian.linear.grad)
        ascent.step()
        multipliers[sparsity] = float(lagrangian.linear.detach())
        assert gradient == pytest.approx(sparsity - 0.5)

    assert multipliers[0.3] < 0 < multipliers[0.7]


@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_the_penalty_pushes_the_gates_towards_the_target(tiny_shape, sparsity):
    gates, lagrangian = Gates(tiny_shape), Lagrangian()
    with torch.no_grad():
        gates.intermediate.fill_(0.0 if sparsity < 0.5 else -4.0)
        gates.heads.fill_(0.0 if sparsity < 0.5 else -1.0)
        before = float(gates.expected_sparsity())
        lagrangian.linear.fill_(before - 0.5)
    assert (before < 0.5) == (sparsity < 0.5)

    lagrangian(gates.expected_sparsity(), 0.5).backward()
    torch.optim.SGD(gates.parameters(), lr=10.0).step()

    after = float(gates.expected_sparsity().detach())
    assert abs(after - 0.5) < abs(before - 0.5)


@pytest.mark.parametrize(("start", "target"), [(2.94, 0.6), (2.94, 0.9), (-1.0, 0.6), (-3.0, 0.3)])
def test_the_lagrangian_converges_to_the_target_from_both_sides(
    make_gates, tiny_shape, start, target
):
    gates, lagrangian = make_gates(seed=0, spread=0.01), Lagrangian()
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.add_(start)
    descent = torch.optim.Adam(gates.parameters(), lr=0.1)
    ascent = torch.optim.Adam(lagrangian.parameters(), lr=0.1, maximize=True)

    for _ in range(450):
        task = 0.01 * sum((p - 2.0).square().mean() for p in gates.parameters())
        (task + lagrangian(gates.expected_sparsity(), target)).backward()
        for optimizer in (descent, ascent):
            optimizer.step()
            optimizer.zero_grad()
        gates.clamp_()

    assert float(gates.expected_sparsity().detach()) == pytest.approx(target, abs=5e-3)


def largest_gap(gates, lagrangian, target, num_updates):
    """Climb to `target` and yield the largest distance from its linear rise."""
    descent = torch.optim.Adam(gates.parameters(), lr=0.1)
    ascent = torch.optim.Adam(lagrangian.parameters(), lr=1.0, maximize=True)
    start = float(gates.expected_sparsity().detach())
    gaps = []
    for step in range(num_updates):
        asked = start + (target - start) * min(1, 2 * (step + 1) / num_updates)
        expected = gates.expected_sparsity()
        task = 0.1 * sum((p - 2.0).square().mean() for p in gates.parameters())
        (task + lagrangian(expected, asked)).backward()
        for optimizer in (descent, ascent):
            optimizer.step()
            optimizer.zero_grad()
        gates.clamp_()
        gaps.append(abs(float(expected.detach()) - asked))
    return max(gaps)


def test_multipliers_of_the_rung_below_hold_a_climb_that_new_ones_let_go(tiny_shape):
    gates, kept = Gates(tiny_shape), Lagrangian()
    largest_gap(gates, kept, 0.6, 150)
    again = Gates(tiny_shape)
    again.load_state_dict(gates.state_dict())

    with_kept = largest_gap(gates, kept, 0.7, 50)
    with_new = largest_gap(again, Lagrangian(), 0.7, 50)

    assert with_kept < 0.05 < 0.1 < with_new
