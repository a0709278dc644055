from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainers.models.batch import Batch
from trainers.models.muxed_bert import MuxedBert
from trainers.models.operations import multiply_adds
from trainers.models.shape import MuxedBertShape

BERT_BASE = MuxedBertShape(
    vocab_size=30522,
    hidden_size=768,
    dense_hidden_size=768,
    head_size=64,
    head_counts=(12,) * 12,
    feedforward_sizes=(3072,) * 12,
    dense_num_heads=12,
    dense_feedforward_size=3072,
    max_positions=512,
)


def test_dense_bert_base_has_its_known_count():
    count = multiply_adds(BERT_BASE, 128, is_classifying=False)

    assert count.encoder == pytest.approx(11.17e9, rel=1e-3)


def counted(model: MuxedBert, num_groups: int, length: int) -> int:
    """Multiply-adds that torch counts in one forward pass."""
    size = (num_groups, model.shape.num_instances, length)
    ids = torch.zeros(size, dtype=torch.long)
    batch = Batch(ids, torch.ones(size, dtype=torch.bool), ids)
    with (
        sdpa_kernel(SDPBackend.MATH),  # torch counts no fused attention on a CPU
        torch.enable_grad(),  # a folded table is read, not multiplied
        FlopCounterMode(display=False) as counter,
    ):
        model(batch)
    return counter.get_total_flops() // 2


def per_group(model: MuxedBert, length: int) -> int:
    """Products that do not depend on the number of groups are no group's."""
    return counted(model, 3, length) - counted(model, 2, length)


@pytest.mark.parametrize("num_instances", [1, 2, 5])
def test_the_count_of_every_variant_is_torchs(make_model, variant, num_instances):
    model = make_model(num_instances, dtype=torch.float32, **variant)

    assert multiply_adds(model.shape, 9).total == per_group(model, 9)


@pytest.mark.parametrize(
    ("head_counts", "feedforward_sizes"),
    [((1, 0, 2), (10, 0, 7)), ((3, 2, 0), (0, 5, 64)), ((0, 0, 0), (3, 0, 9))],
    ids=["last layer attends", "last layer does not", "nothing attends"],
)
def test_the_count_of_pruned_models_is_torchs(tiny_shape, head_counts, feedforward_sizes):
    sizes = {"head_counts": head_counts, "feedforward_sizes": feedforward_sizes}
    shape = replace(tiny_shape, num_instances=2, hidden_size=21, **sizes)

    assert multiply_adds(shape, 9).total == per_group(MuxedBert(shape).eval(), 9)
