"""What must hold for every multiplexer and demultiplexer; `variant` runs through them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.config import ModelConfig
from trainers.models.batch import Batch
from trainers.models.checkpoints import load_model, save_model
from trainers.models.compaction import compact
from trainers.models.masks import masks_to, open_masks, weight_count
from trainers.models.sources import load_source
from trainers.models.widening import widen, with_multiplexing
from trainers.phases.losses import task_loss


def permute_slots(model, order):
    """Give slot j what slot `order[j]` had: keys, or the token and position of its prefix."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("keys") or ".prefix." in name:
                parameter[: len(order)] = parameter[: len(order)][order]


def encoder_weights(model):
    """Count the attention and feed-forward weights of the encoder, biases excluded."""
    linear = (m for m in model.encoder.modules() if isinstance(m, torch.nn.Linear))
    return sum(m.weight.numel() for m in linear)


def padded(batch, num_columns):
    return Batch(*(torch.nn.functional.pad(t, (0, num_columns)) for t in vars(batch).values()))


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_instances=st.sampled_from([1, 2, 5]),
    mask_mode=st.sampled_from(["union", "none"]),
    closed=st.floats(0.0, 0.95),
    soft=st.booleans(),
)
def test_compacted_model_equals_the_masked_one(
    make_model, make_groups, make_masks, variant, seed, num_instances, mask_mode, closed, soft
):
    model = make_model(num_instances, seed=seed, mask_mode=mask_mode, **variant)
    batch = make_groups(num_instances, seed=seed)
    masks = make_masks(seed=seed, closed=closed, soft=soft)

    small = compact(model, masks)

    with torch.no_grad():
        gated, sliced = model(batch, masks), small(batch)
    difference = (gated - sliced).abs().max() / gated.std().clamp(min=1e-3)
    assert float(difference) < 1e-10
    assert encoder_weights(small) == small.shape.num_encoder_parameters
    survivors = replace(
        masks, head_layers=(~masks.skips_attention).double(), heads=(masks.heads != 0).double()
    )
    survivors = replace(
        survivors,
        hidden=(masks.hidden != 0).double(),
        intermediate=(masks.intermediate != 0).double(),
        feedforward_layers=(~masks.skips_feedforward).double(),
    )
    count = weight_count(model.shape, "weights")
    assert encoder_weights(small) == int(count.remaining(survivors))


@pytest.mark.parametrize("num_instances", [1, 2, 5])
def test_masks_of_ones_change_nothing(make_model, make_groups, variant, num_instances):
    model, batch = make_model(num_instances, **variant), make_groups(num_instances)
    masks = masks_to(open_masks(model.shape), model.embeddings.tokens.weight)

    torch.testing.assert_close(model(batch, masks), model(batch), atol=1e-12, rtol=0)


@pytest.mark.parametrize("num_instances", [2, 5])
def test_the_positions_that_the_classifier_reads_are_computed_as_among_all(
    make_model, make_groups, variant, num_instances
):
    model, batch = make_model(num_instances, **variant), make_groups(num_instances)

    everywhere = model.classify(model.encode(batch)[-1])

    assert everywhere.shape == (3, num_instances, 2)
    torch.testing.assert_close(model(batch), everywhere, atol=1e-12, rtol=0)


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(4)), seed=st.integers(0, 1000))
def test_permuting_instances_with_their_slots_permutes_the_logits(
    make_model, make_groups, variant, order, seed
):
    model, batch = make_model(4, seed=seed, **variant), make_groups(4, seed=seed)
    moved = Batch(*(t[:, order] for t in vars(batch).values()))
    before, without_slots = model(batch), model(moved)

    permute_slots(model, torch.tensor(order))

    torch.testing.assert_close(model(moved), before[:, order], atol=1e-10, rtol=0)
    if order != sorted(order):
        assert not torch.allclose(without_slots, before[:, order], atol=1e-6)


@pytest.mark.parametrize("mask_mode", ["union", "none"])
def test_an_instance_influences_its_own_group_and_all_of_it(
    make_model, make_groups, variant, mask_mode
):
    model, batch = make_model(2, mask_mode=mask_mode, **variant), make_groups(2)
    ids = batch.input_ids.clone()
    ids[1, 0] = (ids[1, 0] * 7 + 11) % 95 + 5

    before, after = model(batch), model(replace(batch, input_ids=ids))

    changed = (before != after).any(dim=-1)  # (B, N)
    assert changed.tolist() == [[False, False], [True, True], [False, False]]


@settings(max_examples=5, deadline=None)
@given(
    num_columns=st.integers(1, 6),
    num_instances=st.sampled_from([2, 5]),
    seed=st.integers(0, 1000),
)
def test_columns_of_padding_change_nothing_under_the_union_mask_alone(
    make_model, make_groups, variant, num_columns, num_instances, seed
):
    batch = make_groups(num_instances, seed=seed)
    wider = padded(batch, num_columns)
    masked = make_model(num_instances, **variant)
    unmasked = make_model(num_instances, mask_mode="none", **variant)

    torch.testing.assert_close(masked(wider), masked(batch), atol=1e-10, rtol=0)
    assert not torch.allclose(unmasked(wider), unmasked(batch), atol=1e-6)


@pytest.mark.parametrize("is_compacted", [False, True])
def test_saved_models_come_back_with_identical_logits(
    make_model, make_groups, make_masks, variant, tmp_path, is_compacted
):
    model, batch = make_model(2, **variant), make_groups(2)
    model = (compact(model, make_masks(soft=True)) if is_compacted else model).float()

    save_model(model, tmp_path)

    loaded = load_model(tmp_path)
    assert loaded.shape == model.shape
    assert torch.equal(loaded(batch), model(batch))
    trained = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}


def test_without_multiplexing_every_variant_is_the_same_model(make_model, make_groups, variant):
    model = make_model(1, **variant)

    assert torch.equal(model(make_groups()), make_model(1)(make_groups()))
    assert model.state_dict().keys() == make_model(1).state_dict().keys()


def test_a_wide_model_starts_from_the_weights_of_the_plain_one(make_model, make_groups, variant):
    plain = make_model(1, dtype=torch.float32, **variant)

    wide = widen(plain, 5).eval()

    before, after = plain.state_dict(), wide.state_dict()
    kept = {name for name in before if name.startswith(("embeddings", "encoder"))}
    assert kept <= after.keys()
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert wide(make_groups(5)).shape == (3, 5, 2)


@pytest.mark.parametrize("num_instances", [1, 2, 3])
def test_the_built_in_model_can_start_every_variant(make_groups, variant, num_instances):
    config = ModelConfig(**variant)

    model = load_source(config, num_instances).eval()

    shape = model.shape
    assert shape.multiplexer == config.multiplexer
    assert shape.demultiplexer == config.demultiplexer
    assert shape.demux_norm == config.demux_norm
    assert shape.num_demux_layers == config.num_demux_layers
    assert shape.num_instances == num_instances
    assert model(make_groups(num_instances)).isfinite().all()


def test_training_moves_every_weight_but_fixed_keys(make_model, make_groups, variant):
    model, batch = make_model(2, **variant).train(), make_groups(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

    loss = task_loss(model(batch), torch.tensor([[0, 1], [1, 0], [1, 1]]))
    tokens = model.token_states(model.encode(batch)[-1])
    (loss + tokens.pow(3).mean()).backward()
    optimizer.step()

    still = {name for name, t in model.state_dict().items() if torch.equal(t, before[name])}
    is_learned = model.shape.multiplexer == "learned_hadamard"
    assert still == (set() if is_learned else {"embeddings.mux.keys"})


def test_a_trained_key_reaches_inference_through_the_folded_table(make_model, make_groups):
    model = make_model(2, embed_mode="single_pass", multiplexer="learned_hadamard")
    batch = make_groups(2)
    with torch.no_grad():
        before = model(batch)
    model.train()
    with torch.no_grad():
        model.embeddings.mux.keys.mul_(torch.rand(2, 32))

    with torch.no_grad():
        after = model.eval()(batch)

    assert not torch.allclose(after, before, atol=1e-6)
    torch.testing.assert_close(after, model(batch), atol=1e-10, rtol=0)


def test_learned_keys_take_up_the_fixed_ones_of_a_wide_checkpoint(make_model):
    fixed = make_model(2, dtype=torch.float32)

    learned = with_multiplexing(fixed, ModelConfig(multiplexer="learned_hadamard"))

    assert not fixed.embeddings.mux.keys.requires_grad
    assert learned.embeddings.mux.keys.requires_grad
    assert not learned.training
    assert fixed.state_dict().keys() == learned.state_dict().keys()
    assert all(torch.equal(t, learned.state_dict()[k]) for k, t in fixed.state_dict().items())
