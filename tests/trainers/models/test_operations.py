import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainers.measure.throughput import time_interleaved
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


SIZES = [(8, 512), (6, 384), (3, 150), (1, 40)]
"""Heads and feed-forward units of every layer, from dense to pruned by nine tenths."""


def make_timed(num_instances: int, num_heads: int, num_units: int) -> MuxedBert:
    shape = replace(
        BERT_BASE,
        vocab_size=100,
        hidden_size=256,
        dense_hidden_size=256,
        head_size=32,
        head_counts=(num_heads,) * 4,
        feedforward_sizes=(num_units,) * 4,
        dense_num_heads=8,
        dense_feedforward_size=512,
        num_instances=num_instances,
    )
    return MuxedBert(shape).eval()


@pytest.mark.parametrize("num_instances", [1, 2])
def test_fewer_multiply_adds_take_less_time(num_instances):
    """Every second structure is compared: its count is less than half, so the margin is wide."""
    models = [make_timed(num_instances, *size) for size in SIZES]
    counts = [multiply_adds(model.shape, 64).total for model in models]

    ids = torch.zeros(8, num_instances, 64, dtype=torch.long)
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), ids)
    seconds = time_interleaved(
        [partial(model, batch) for model in models],
        num_warmup=2,
        num_repeats=7,
        device=torch.device("cpu"),
        clock=time.process_time,  # other processes do not count
    ).min(axis=1)

    assert counts == sorted(counts, reverse=True)
    for dense, sparse in ((0, 2), (1, 3)):
        assert counts[sparse] < 0.5 * counts[dense]
        assert seconds[sparse] < 0.9 * seconds[dense]
