from dataclasses import replace

import pytest
import torch

from trainers.errors import ConfigError
from trainers.models.batch import Batch
from trainers.models.blocks import block_masks, check_blocks, stack
from trainers.models.compaction import compact
from trainers.models.masks import Masks

WIDTHS = (2, 4)
"""Those that divide the tiny sizes."""


@pytest.fixture
def make_blocks(make_model, make_masks, tiny_shape):
    """Build a narrow model and the wide one made of `num_instances` copies of it."""

    def build(num_instances):
        scores = make_masks(closed=0.0, soft=True)
        model = make_model()
        narrow = compact(model, block_masks(tiny_shape, scores, num_instances))
        shape = replace(tiny_shape.dense(num_instances), embed_mode="single_pass")
        torch.manual_seed(0)
        return narrow, stack(narrow, shape).to(torch.float64).eval()

    return build


def swapped(batch: Batch, order: list[int]) -> Batch:
    return Batch(*(tensor[:, order] for tensor in vars(batch).values()))


@pytest.mark.parametrize("num_instances", WIDTHS)
def test_a_wide_model_repeats_the_narrow_one_for_equal_instances(
    make_blocks, make_groups, num_instances
):
    narrow, wide = make_blocks(num_instances)
    single = make_groups(1)
    equal = swapped(single, [0] * num_instances)

    expected = narrow.encode(single)
    found = wide.encode(equal)

    for one, all_of_them in zip(expected, found, strict=True):
        torch.testing.assert_close(all_of_them, torch.cat([one] * num_instances, dim=-1))


@pytest.mark.parametrize("num_instances", WIDTHS)
def test_blocks_change_places_with_their_instances(make_blocks, make_groups, num_instances):
    _, wide = make_blocks(num_instances)
    batch = make_groups(num_instances)
    order = list(range(num_instances))[::-1]

    states = wide.encode(batch)[-1].unflatten(-1, (num_instances, -1))
    other = wide.encode(swapped(batch, order))[-1].unflatten(-1, (num_instances, -1))

    torch.testing.assert_close(other, states[:, :, order])
    assert not torch.allclose(states[:, :, 0], states[:, :, 1])


def test_a_block_hears_of_other_instances_through_layer_norms_alone(make_blocks, make_groups):
    narrow, wide = make_blocks(2)
    batch = make_groups(2, length=6)
    batch = replace(batch, attention_mask=torch.ones_like(batch.attention_mask))

    alone = narrow.encode(swapped(batch, [0]))[-1]
    first = wide.encode(batch)[-1][..., : alone.shape[-1]]

    similarity = torch.cosine_similarity(alone.flatten(), first.flatten(), dim=0)
    assert similarity > 0.9
    assert similarity < 1 - 1e-6  # it does hear of them


def test_the_demultiplexer_starts_with_each_instances_own_block(make_blocks, make_groups):
    _, wide = make_blocks(2)
    batch = make_groups(2)
    states = wide.encode(batch)[-1]
    constants = wide.demux.key(wide.demux.keys)

    first = torch.nn.functional.gelu(wide.demux.state(states)[:, :, None] + constants)

    size = states.shape[-1] // 2
    own, foreign = first[:, :, 0, :size], first[:, :, 0, size:]
    assert torch.corrcoef(torch.stack([own.flatten(), states[..., :size].flatten()]))[0, 1] > 0.95
    assert foreign.abs().mean() < 0.1 * own.abs().mean()


def test_what_n_does_not_divide_is_left_to_training(make_blocks, make_groups):
    narrow, wide = make_blocks(3)  # of 32 dimensions, 4 heads and 64 units

    assert narrow.shape.hidden_size == 10
    assert narrow.shape.head_counts == (1, 1, 1)
    assert narrow.shape.feedforward_sizes == (21, 21, 21)
    states = wide.encode(make_groups(3))[-1]
    assert torch.isfinite(states).all()
    assert (states[..., 30:] == 0).all()


def test_a_wide_model_has_the_dense_shape(make_blocks, tiny_shape):
    _, wide = make_blocks(2)

    assert wide.shape == replace(tiny_shape.dense(2), embed_mode="single_pass")
    assert wide.shape.sparsity == 0


def test_block_masks_keep_the_best_of_every_layer(tiny_shape, make_masks):
    scores = make_masks(closed=0.0, soft=True)

    masks = block_masks(tiny_shape, scores, 2)

    for kept, worth in ((masks.heads, scores.heads), (masks.intermediate, scores.intermediate)):
        assert (kept.sum(dim=1) == kept.shape[1] // 2).all()
        for row, values in zip(kept, worth, strict=True):
            assert values[row == 1].min() >= values[row == 0].max()
    assert masks.hidden.sum() == 16
    assert isinstance(masks, Masks)


def test_more_instances_than_heads_are_refused(tiny_shape):
    check_blocks(tiny_shape, 4)

    with pytest.raises(ConfigError, match="the model has 4; N must be at most that, got 5"):
        check_blocks(tiny_shape, 5)
