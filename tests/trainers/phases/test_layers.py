from dataclasses import replace
from typing import get_args

import pytest
import torch

from trainers.models.masks import open_masks
from trainers.phase_config import LayerAlignment, PruneConfig
from trainers.phases import layers
from trainers.phases.layers import (
    LayerMatcher,
    compacted_map,
    identity_map,
    left_layers,
    load_map,
    open_layers,
)
from trainers.phases.losses import layer_distances, layer_distillation
from trainers.phases.precision import Precision
from trainers.processes import Processes

CPU = Precision(torch.device("cpu"))
NUM_TOKENS = 10


@pytest.fixture
def make_matcher(make_model):
    def build(*, seed=0, **changes):
        torch.manual_seed(0)
        config = PruneConfig(**changes)
        return LayerMatcher(make_model(2), identity_map(32), config, seed=seed, precision=CPU)

    return build


def random_states(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, NUM_TOKENS // 2, 32, generator=generator) for _ in range(3)]


def loss_of(matcher, step=0, exists=(True, True, True)):
    attended = torch.ones(2, NUM_TOKENS // 2) > 0, 1.0
    return matcher.loss(step, random_states(0), random_states(1), torch.tensor(exists), attended)


def test_the_layer_map_starts_as_the_identity():
    states = torch.randn(3, 32)

    assert torch.equal(identity_map(32)(states), states)


def test_the_map_of_a_compacted_model_yields_what_that_of_the_gated_one_does(make_masks):
    layer_map, masks = torch.nn.Linear(32, 32), make_masks(seed=1)
    keep = masks.hidden.nonzero().squeeze(1)
    states = torch.randn(4, 32) * masks.hidden.float()

    small = load_map(compacted_map(layer_map, masks))

    assert small.weight.shape == (32, len(keep)) != (32, 32)
    torch.testing.assert_close(small(states[:, keep]), layer_map(states))


def test_layers_exist_alike_under_gates_and_after_compaction(tiny_shape):
    masks = open_masks(tiny_shape)
    masks.head_layers[0] = masks.feedforward_layers[0] = 0
    masks.head_layers[1] = 0
    shape = replace(tiny_shape, head_counts=(0, 0, 4), feedforward_sizes=(0, 64, 64))

    assert open_layers(masks).tolist() == left_layers(shape).tolist() == [False, True, True]


@pytest.mark.parametrize("word", get_args(LayerAlignment))
def test_every_alignment_matches_the_layers_it_names(make_matcher, monkeypatch, word):
    matcher, seen = make_matcher(layer_alignment=word), []

    def remember(student, teacher, layer_map, pairs, mask):
        seen.append((len(teacher), pairs))
        return layer_distillation(student, teacher, layer_map, pairs, mask)

    monkeypatch.setattr(layers, "layer_distillation", remember)
    loss = float(loss_of(matcher).detach())

    num_teachers, pairs = seen[0]
    assert num_teachers == 3
    assert [row for row, _ in pairs] == [0, 1, 2]
    assert word != "fixed" or pairs == [(0, 0), (1, 1), (2, 2)]
    assert loss > 0


def test_fixed_alignment_leaves_out_a_layer_that_does_not_exist(make_matcher):
    matcher = make_matcher(layer_alignment="fixed")
    states = [torch.zeros(1, 2, 32)] * 3
    teacher_states = [torch.full((1, 2, 32), float(2**k)) for k in range(3)]
    exists, attended = torch.tensor([False, True, True]), (torch.ones(1, 2) > 0, 1.0)

    loss = matcher.loss(0, states, teacher_states, exists, attended)

    assert float(loss.detach()) == 4 + 16  # not the 1 of layer 0


def test_teachers_are_drawn_anew_at_every_update_and_alike_by_the_same_seed(
    make_matcher, monkeypatch
):
    seen = []

    def remember(word, num_layers, random):
        seen.append((word, num_layers, int(random.integers(1 << 30))))
        return (0, 1, 2)

    monkeypatch.setattr(layers, "choose_teachers", remember)
    for step in (0, 1, 0):
        loss_of(make_matcher(layer_alignment="windowed"), step)

    assert seen[0][:2] == ("windowed", 3)
    assert seen[0] != seen[1]
    assert seen[0] == seen[2]


def test_few_tokens_choose_the_layers_and_all_are_matched(make_matcher, monkeypatch):
    measured, matched = [], []

    def remember_distances(student, teacher, layer_map, mask):
        measured.append(mask)
        return layer_distances(student, teacher, layer_map, mask)

    def remember_loss(student, teacher, layer_map, pairs, mask):
        matched.append(int(mask.sum()))
        return layer_distillation(student, teacher, layer_map, pairs, mask)

    monkeypatch.setattr(layers, "layer_distances", remember_distances)
    monkeypatch.setattr(layers, "layer_distillation", remember_loss)
    for step in (0, 0, 1):
        loss_of(make_matcher(alignment_tokens=3), step)

    assert [int(mask.sum()) for mask in measured] == [3, 3, 3]
    assert torch.equal(measured[0], measured[1])
    assert not torch.equal(measured[0], measured[2])
    assert matched == [NUM_TOKENS] * 3


def test_more_tokens_than_there_are_are_all(make_matcher):
    few, all_ = make_matcher(alignment_tokens=10**6), make_matcher()

    assert float(loss_of(few).detach()) == float(loss_of(all_).detach())


def test_layers_are_aligned_by_the_distances_in_what_all_processes_have(make_matcher):
    class Two(Processes):
        def exchange(self, value):
            return [value, [[5.0, 1.0], [1.0, 1.0]]]

    matcher = make_matcher()
    matcher.precision = replace(CPU, processes=Two(0, 2))

    distances = matcher._over_processes(torch.tensor([[2.0, 4.0], [8.0, 4.0]]), 0.25)

    assert distances.tolist() == [[5.5, 2.0], [3.0, 2.0]]
    assert distances.dtype == torch.float32
