from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.errors import ConfigError
from trainers.models.compaction import compact, compacted_shape
from trainers.models.masks import Gates, Masks, weight_count
from trainers.models.structure import check_reachable, choose_structure
from trainers.phase_config import GATE_KINDS

SUBSETS = [subset for k in range(1, 6) for subset in combinations(GATE_KINDS, k)]


@pytest.fixture(scope="module")
def larger_shape(tiny_shape):
    """The sizes of the built-in model, where 0.1 % is more than a feed-forward unit."""
    sizes = {"hidden_size": 128, "dense_hidden_size": 128, "head_size": 32}
    units = {"feedforward_sizes": (512,) * 4, "dense_feedforward_size": 512}
    return replace(tiny_shape, head_counts=(4,) * 4, **sizes, **units)


def all_sparsities(shape, kinds, convention="weights"):
    """Yield the sparsity of every structure that the gates allow, by counting them all."""
    num_heads, num_units = shape.dense_num_heads, shape.dense_feedforward_size
    num_layers, size = shape.num_layers, shape.dense_hidden_size

    def counts(fine, coarse, in_layer):
        step = 1 if fine in kinds else in_layer if coarse in kinds else in_layer * num_layers
        first = 0 if step < in_layer * num_layers else step
        return torch.arange(first, in_layer * num_layers + 1, step, dtype=torch.float64)

    hidden = torch.arange(1 if "hidden" in kinds else size, size + 1, dtype=torch.float64)
    heads = counts("heads", "head_layers", num_heads)
    units = counts("intermediate", "feedforward_layers", num_units)
    count = weight_count(shape, convention)
    weights = count.per_head * heads[:, None] + count.per_unit * units
    return 1 - (hidden[:, None, None] * weights).flatten() / count.total


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(0.01, 4.0),
    sparsity=st.floats(0.0, 0.99),
)
def test_final_masks_spend_the_budget_to_within_one_unit(
    make_gates, tiny_shape, seed, spread, sparsity
):
    """A unit has the width that is kept; if no kept layer has one to give, the dense width."""
    gates = make_gates(seed, spread)
    budget = (1 - sparsity) * tiny_shape.num_prunable_parameters

    masks = choose_structure(gates, sparsity)

    shape = compacted_shape(tiny_shape, masks)
    left_over = budget - shape.num_encoder_parameters
    has_layers = any(shape.feedforward_sizes)
    kept_layers = [n for n in shape.feedforward_sizes if n or not has_layers]
    width = shape.hidden_size if any(n < 64 for n in kept_layers) else 32
    assert -1e-6 <= left_over <= 2 * width


@settings(max_examples=100, deadline=None)
@given(
    kinds=st.sampled_from(SUBSETS),
    convention=st.sampled_from(["weights", "cofi"]),
    seed=st.integers(0, 10_000),
    sparsity=st.floats(0.01, 0.95),
)
def test_any_gates_hit_what_they_can_reach_within_a_thousandth_and_refuse_the_rest(
    make_gates, larger_shape, kinds, convention, seed, sparsity
):
    possible = all_sparsities(larger_shape, kinds, convention)
    gates = make_gates(seed, 2.0, shape=larger_shape, kinds=kinds, convention=convention)

    if (possible - sparsity).abs().min() > 1e-3:
        with pytest.raises(ConfigError, match="ask for what it reaches or add gates"):
            choose_structure(gates, sparsity)
        return
    masks = choose_structure(gates, sparsity)

    reached = 1 - float(gates.count.remaining(masks)) / gates.count.total
    assert reached == pytest.approx(sparsity, abs=1e-3)
    if possible[(possible - sparsity).abs() <= 1e-3].max() >= sparsity:
        assert reached >= sparsity - 1e-9


@pytest.mark.parametrize("kinds", SUBSETS, ids=lambda kinds: "-".join(kinds))
def test_only_what_has_gates_is_removed(make_gates, larger_shape, kinds):
    sparsity = float(all_sparsities(larger_shape, kinds).median())

    masks = choose_structure(make_gates(0, 2.0, shape=larger_shape, kinds=kinds), sparsity)

    heads, units = masks.heads.sum(dim=1), masks.intermediate.sum(dim=1)
    assert "hidden" in kinds or masks.hidden.all()
    assert {"heads", "head_layers"} & set(kinds) or masks.heads.all()
    assert {"intermediate", "feedforward_layers"} & set(kinds) or masks.intermediate.all()
    assert "heads" in kinds or {0.0, 4.0} >= set(heads.tolist())
    assert "intermediate" in kinds or {0.0, 512.0} >= set(units.tolist())


@pytest.mark.parametrize(
    ("kinds", "sparsity", "reached"),
    [
        (("heads",), 0.6, "at most 0.3333"),
        (("intermediate", "feedforward_layers"), 0.7, "at most 0.6667"),
        (("head_layers", "feedforward_layers"), 0.6, "0.5833 and 0.6667"),
        (("hidden",), 0.6, "0.5938 and 0.6016"),
    ],
)
def test_gates_that_cannot_reach_a_sparsity_name_what_they_can(
    larger_shape, kinds, sparsity, reached
):
    names = ", ".join(sorted(kinds))

    with pytest.raises(
        ConfigError,
        match=rf"`prune.gates` with only {names} reaches a sparsity of {reached}, not {sparsity}",
    ):
        check_reachable(larger_shape, kinds, "weights", sparsity)


@pytest.mark.parametrize("sparsity", [0.3333, 0.3333 - 1e-4])
def test_a_sparsity_that_a_refusal_names_is_reached(make_gates, larger_shape, sparsity):
    gates = make_gates(0, shape=larger_shape, kinds=("heads",))

    masks = choose_structure(gates, sparsity)

    assert not masks.heads.any()


def test_the_budget_is_met_even_if_the_kept_layers_have_nothing_left_to_give(larger_shape):
    gates = Gates(larger_shape)
    with torch.no_grad():  # one open feed-forward layer; the next in rank is a head, 2 % of all
        gates.feedforward_layers[1:] = -4.6
        gates.feedforward_layers[0] = 4.6
        gates.heads.fill_(-1.0)

    masks = choose_structure(gates, 0.82)

    assert compacted_shape(larger_shape, masks).sparsity == pytest.approx(0.82, abs=1e-3)


def test_a_gated_subset_compacts_to_the_same_outputs(make_model, make_groups, make_gates):
    kinds = ("head_layers", "intermediate")
    masks = choose_structure(make_gates(3, kinds=kinds), 0.5)
    masks = Masks(**{name: gate.double() for name, gate in vars(masks).items()})
    model, groups = make_model(2), make_groups(2)

    small = compact(model, masks)

    assert small.shape.hidden_size == 32
    torch.testing.assert_close(small(groups), model(groups, masks), atol=1e-10, rtol=0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), sparsity=st.floats(0.3, 0.95))
def test_final_masks_of_a_larger_model_hit_the_sparsity_within_a_thousandth(
    make_gates, larger_shape, seed, sparsity
):
    masks = choose_structure(make_gates(seed, 1.0, shape=larger_shape), sparsity)

    assert compacted_shape(larger_shape, masks).sparsity == pytest.approx(sparsity, abs=1e-3)


def test_final_masks_are_binary_and_keep_the_likeliest_units(tiny_shape):
    gates = Gates(tiny_shape)
    with torch.no_grad():
        gates.intermediate[:, ::2] = -3.0

    masks = choose_structure(gates, 0.3)

    assert {float(v) for gate in vars(masks).values() for v in gate.flatten()} == {0.0, 1.0}
    assert masks.hidden.all()
    assert masks.heads.all()
    assert masks.intermediate[:, 1::2].sum() > masks.intermediate[:, ::2].sum()


def test_requesting_nothing_keeps_everything(make_gates):
    masks = choose_structure(make_gates(seed=5), 0.0)

    assert all(gate.all() for gate in vars(masks).values())


def test_final_masks_keep_a_hidden_dimension_even_if_those_are_the_least_likely(tiny_shape):
    gates = Gates(tiny_shape)
    with torch.no_grad():
        gates.hidden.fill_(-4.0)

    masks = choose_structure(gates, 0.99)

    shape = compacted_shape(tiny_shape, masks)
    assert shape.hidden_size >= 1
    assert shape.sparsity >= 0.99
