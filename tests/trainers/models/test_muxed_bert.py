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
    random_model,
    seeds,
    shapes,
    sizes,
)

from trainers.errors import ShapeError
from trainers.models import embeddings, muxed_bert
from trainers.models.batch import Batch


def with_padding_columns(batch, num_columns):
    """Append columns that are padding in every instance."""
    return Batch(*(torch.nn.functional.pad(t, (0, num_columns)) for t in vars(batch).values()))


def with_other_instance(batch, group, instance, vocab_size):
    """Replace the tokens of one instance of one group by their neighbours in the vocabulary."""
    ids = batch.input_ids.clone()
    ids[group, instance] = (ids[group, instance] - 5 + 1) % (vocab_size - 5) + 5
    return replace(batch, input_ids=ids)


@pytest.mark.parametrize("embed_mode", ["two_pass", "single_pass"])
@pytest.mark.parametrize("num_instances", [1, 2, 5])
def test_every_instance_gets_its_logits(make_model, make_groups, num_instances, embed_mode):
    model = make_model(num_instances, embed_mode=embed_mode, num_classes=3)

    assert model(make_groups(num_instances)).shape == (3, num_instances, 3)


WIDE = {
    "shape": shapes(widths=(2, 3, 5)),
    "size": sizes(),
    "dtype": dtypes(has_half=True),
    "seed": seeds(),
}


@settings(max_examples=20, deadline=None)
@given(**WIDE, data=st.data())
def test_permuting_instances_with_both_their_keys_permutes_the_logits(
    shape, size, dtype, seed, data
):
    model, batch = random_model(shape, seed=seed, dtype=dtype), groups_of(shape, size, seed)
    order = torch.tensor(data.draw(st.permutations(range(shape.num_instances))))
    moved = Batch(*(t[:, order] for t in vars(batch).values()))
    before = model(batch)

    with torch.no_grad():
        for keys in (model.embeddings.mux.keys, model.demux.keys):
            keys.copy_(keys[order])

    assert difference(model(moved), before[:, order]) < TOLERANCES[dtype]


def test_permuting_instances_without_their_keys_changes_the_logits(make_model, make_groups):
    model, batch = make_model(5), make_groups(5)
    order = torch.tensor([3, 1, 4, 0, 2])
    moved = Batch(*(t[:, order] for t in vars(batch).values()))

    assert not torch.allclose(model(moved), model(batch)[:, order], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(**{**WIDE, "size": sizes(min_groups=2)}, data=st.data())
def test_an_instance_influences_its_own_group_only(shape, size, dtype, seed, data):
    model, batch = random_model(shape, seed=seed, dtype=dtype), groups_of(shape, size, seed)
    group = data.draw(st.integers(0, size["num_groups"] - 1))
    instance = data.draw(st.integers(0, shape.num_instances - 1))
    others = torch.arange(size["num_groups"]) != group

    before = model(batch)
    after = model(with_other_instance(batch, group, instance, shape.vocab_size))

    assert torch.equal(before[others], after[others])
    if dtype != torch.bfloat16:  # 8 bits may not show it
        assert (before[group] != after[group]).any(dim=-1).all()


def test_a_group_s_logits_do_not_depend_on_the_other_groups_of_the_batch(make_model, make_groups):
    model, batch = make_model(2), make_groups(2, num_groups=4)

    alone = [model(Batch(*(t[g : g + 1] for t in vars(batch).values()))) for g in range(4)]

    torch.testing.assert_close(torch.cat(alone), model(batch), atol=1e-10, rtol=0)


@settings(max_examples=20, deadline=None)
@given(
    num_columns=st.integers(1, 4),
    shape=shapes(mask_mode="union"),
    size=sizes(),
    dtype=dtypes(has_half=True),
    seed=seeds(),
)
def test_columns_of_padding_change_nothing_under_the_union_mask(
    num_columns, shape, size, dtype, seed
):
    model, batch = random_model(shape, seed=seed, dtype=dtype), groups_of(shape, size, seed)

    padded = model(with_padding_columns(batch, num_columns))

    assert difference(padded, model(batch)) < TOLERANCES[dtype]


def test_columns_of_padding_do_change_logits_without_a_mask(make_model, make_groups):
    model, batch = make_model(2, mask_mode="none"), make_groups(2)

    padded = model(with_padding_columns(batch, 4))

    assert not torch.allclose(padded, model(batch), atol=1e-4)


def test_the_plain_model_masks_padding_even_if_multiplexed_ones_would_not(make_model, make_groups):
    model, batch = make_model(1, mask_mode="none"), make_groups()

    padded = model(with_padding_columns(batch, 4))

    torch.testing.assert_close(padded, model(batch), atol=1e-10, rtol=0)


def test_the_two_ways_to_embed_are_different_models(make_model, make_groups):
    weights = make_model(2, embed_mode="two_pass").state_dict()
    other = make_model(2, embed_mode="single_pass")

    other.load_state_dict(weights)

    batch = make_groups(2)
    two_pass = make_model(2, embed_mode="two_pass")(batch)
    assert not torch.allclose(other(batch), two_pass, atol=1e-4)


def test_two_passes_apply_the_embedding_block_to_each_sequence_and_to_the_mixture(
    make_model, make_groups
):
    embeddings, batch = make_model(2).embeddings, make_groups(2)

    mixed = embeddings(batch, None)

    positions = embeddings.positions.weight[:9]
    each = [
        embeddings.norm(
            embeddings.tokens(batch.input_ids[:, i])
            + embeddings.token_types(batch.token_type_ids[:, i])
            + positions
        )
        for i in range(2)
    ]
    mean = (embeddings.mux.keys[0] * each[0] + embeddings.mux.keys[1] * each[1]) / 2
    expected = embeddings.norm(mean + positions + embeddings.token_types.weight[0])
    torch.testing.assert_close(mixed, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("num_instances", [2, 5])
def test_the_folded_table_of_inference_equals_the_path_of_training(
    make_model, make_groups, num_instances
):
    model = make_model(num_instances, dtype=torch.float32, embed_mode="single_pass")
    batch = make_groups(num_instances)

    with torch.no_grad():
        folded = model(batch)

    assert model.embeddings._folded is not None
    torch.testing.assert_close(folded, model(batch), atol=1e-5, rtol=1e-5)


def test_a_table_too_large_to_fold_is_never_built(make_model, make_groups, monkeypatch):
    monkeypatch.setattr(embeddings, "LARGEST_FOLDED_TABLE", 2 * 100 * 32 - 1)
    model, batch = make_model(2, embed_mode="single_pass"), make_groups(2)

    with torch.no_grad():
        logits = model(batch)

    assert model.embeddings._folded is None
    torch.testing.assert_close(logits, model(batch), atol=1e-12, rtol=0)


def test_new_weights_are_used_after_a_table_was_folded(make_model, make_groups):
    model, batch = make_model(2, embed_mode="single_pass"), make_groups(2)
    other = make_model(2, seed=1, embed_mode="single_pass")
    with torch.no_grad():
        model(batch)

    model.load_state_dict(other.state_dict())

    with torch.no_grad():
        assert torch.equal(model(batch), other(batch))


@pytest.mark.parametrize("change", ["cast", "write", "replace"])
def test_a_table_is_folded_anew_once_weights_are_cast_or_written(make_model, make_groups, change):
    model, batch = make_model(2, embed_mode="single_pass"), make_groups(2)
    fresh = make_model(2, embed_mode="single_pass")
    with torch.no_grad():
        model.to(torch.float32)(batch)
        for changed in (fresh.to(torch.float32), model):
            if change == "cast":
                changed.double()
            elif change == "write":
                changed.embeddings.mux.keys.mul_(2.0)
            else:
                changed.embeddings.tokens.weight = torch.nn.Parameter(torch.ones(100, 32))

        assert torch.equal(model(batch), fresh(batch))


def test_training_after_inference_uses_the_trained_weights(make_model, make_groups):
    model, batch = make_model(2, embed_mode="single_pass"), make_groups(2)
    with torch.no_grad():
        before = model(batch)
    model.train()
    with torch.no_grad():
        model.embeddings.tokens.weight.add_(torch.randn_like(model.embeddings.tokens.weight))

    with torch.no_grad():
        after = model.eval()(batch)

    assert not torch.allclose(after, before, atol=1e-4)
    torch.testing.assert_close(after, model(batch), atol=1e-10, rtol=0)


def test_groups_of_one_hold_the_same_sequences_in_order(make_groups):
    batch = make_groups(5)

    single = batch.as_single()

    assert single.input_ids.shape == (15, 1, 9)
    assert torch.equal(single.input_ids[7, 0], batch.input_ids[1, 2])
    assert torch.equal(single.attention_mask[7, 0], batch.attention_mask[1, 2])
    assert torch.equal(single.token_type_ids[7, 0], batch.token_type_ids[1, 2])


def test_a_contextual_multiplexer_without_a_first_pass_is_refused(make_model):
    with pytest.raises(ShapeError, match="needs the embed mode `two_pass`"):
        make_model(2, multiplexer="contextual", embed_mode="single_pass")


def test_a_batch_of_another_width_is_refused(make_model, make_groups):
    with pytest.raises(ShapeError, match="multiplexes 2 instances, got 5"):
        make_model(2)(make_groups(5))


def test_sequences_longer_than_the_position_table_are_refused(make_model, make_groups):
    with pytest.raises(ShapeError, match="at most 16 tokens, got 17"):
        make_model(2)(make_groups(2, length=17))


@pytest.mark.parametrize("demultiplexer", ["rsa", "index_prefix"])
@pytest.mark.parametrize("chunk_size", [1, 700, 10**9])
def test_chunks_of_groups_yield_the_same_logits(
    make_model, make_groups, monkeypatch, demultiplexer, chunk_size
):
    monkeypatch.setattr(muxed_bert, "CHUNK_SIZE", chunk_size)
    model = make_model(2, demultiplexer=demultiplexer)
    groups = make_groups(2, num_groups=7)
    with torch.no_grad():
        expected = model(groups)

    with torch.inference_mode():
        found = model(groups)

    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_chunks_hold_what_a_thread_has_cache_for(make_model, make_groups, monkeypatch):
    seen = []
    model, groups = make_model(2), make_groups(2, num_groups=7, length=9)
    monkeypatch.setattr(muxed_bert, "CHUNK_SIZE", 3 * 9 * 32)  # numbers in three groups
    inner = model.encoder.first_states
    monkeypatch.setattr(
        model.encoder,
        "first_states",
        lambda states, *rest: seen.append(len(states)) or inner(states, *rest),
    )

    with torch.inference_mode():
        model(groups)
    with torch.no_grad():
        model(groups)

    assert seen == [3, 3, 1, 7]


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids"])
def test_parts_of_a_batch_with_different_shapes_are_refused(make_model, make_groups, name):
    batch = make_groups(2)
    cut = replace(batch, **{name: getattr(batch, name)[..., :-1]})

    with pytest.raises(ShapeError, match=r"one shape, got .*\(3, 2, 8\)"):
        make_model(2)(cut)


def test_sequences_without_a_token_are_refused(make_model):
    ids = torch.zeros(3, 2, 0, dtype=torch.long)

    with pytest.raises(ShapeError, match="need at least 1 token, got 0"):
        make_model(2)(Batch(ids, ids.bool(), ids))


WAYS = {
    "plain": (1, {}, False),
    "two passes": (2, {}, False),
    "two passes folded": (2, {}, True),
    "single pass": (2, {"embed_mode": "single_pass"}, False),
    "single pass folded": (2, {"embed_mode": "single_pass"}, True),
    "prefix": (2, {"demultiplexer": "index_prefix", "embed_mode": "single_pass"}, True),
}
"""N, changes to the shape, and whether its tables are folded: every way to look tokens up."""


@pytest.mark.parametrize("place", [(0, 0, 2), (2, -1, 8)])
@pytest.mark.parametrize(
    ("name", "value", "most"), [("input_ids", 100, 99), ("token_type_ids", 2, 1)]
)
@pytest.mark.parametrize(("num_instances", "changes", "is_folded"), WAYS.values(), ids=WAYS)
def test_ids_beyond_the_tables_are_refused(
    make_model, make_groups, num_instances, changes, is_folded, name, value, most, place
):
    model = make_model(num_instances, dtype=torch.float32, **changes)
    batch = make_groups(num_instances)
    getattr(batch, name)[place] = value
    if is_folded:
        model.fold()

    with (
        torch.inference_mode(),
        pytest.raises(ShapeError, match=f"`{name}` must be in 0 to {most}, .*, got {value}"),
    ):
        model(batch)


def test_other_errors_of_looking_up_stay_as_they_are(make_model, make_groups, monkeypatch):
    model = make_model(1)
    monkeypatch.setattr(model.embeddings.norm, "normalized_shape", (7,))

    with pytest.raises(RuntimeError, match="normalized_shape"):
        model(make_groups())


@pytest.mark.parametrize("num_instances", [1, 2])
def test_a_model_is_one_graph_to_the_compiler(make_model, make_groups, num_instances):
    model, batch = make_model(num_instances), make_groups(num_instances)

    compiled = torch.compile(model, backend="eager", fullgraph=True)

    with torch.no_grad():
        torch.testing.assert_close(compiled(batch), model(batch), atol=1e-12, rtol=0)
