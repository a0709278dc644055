from dataclasses import replace

import pytest
import torch

from trainers.models.masks import Gates, Lagrangian, open_masks
from trainers.models.muxed_bert import MuxedBert
from trainers.models.structure import choose_structure
from trainers.phase_config import LAYER_ALIGNMENTS, PruneConfig
from trainers.phases import prune
from trainers.phases.losses import layer_distillation
from trainers.phases.precision import Precision
from trainers.phases.prune import PruneProgram, identity_map, target_sparsity
from trainers.processes import Processes

CPU = Precision(torch.device("cpu"))


@pytest.fixture
def make_program(make_model, make_encoded):
    def build(num_instances=2, *, sparsity=0.6, **changes):
        torch.manual_seed(0)
        values = {"num_updates": 40, "batch_size": 4, "learning_rate": 1e-3, **changes}
        config = PruneConfig(**values)
        model = make_model(num_instances, dtype=torch.float32)
        return PruneProgram(
            model,
            make_model(num_instances, dtype=torch.float32),
            Gates(model.shape, config.gates, config.sparsity_convention),
            make_encoded(40),
            sparsity,
            config,
            seed=0,
            precision=CPU,
        )

    return build


def test_the_target_rises_from_the_start_and_stays_at_the_requested_sparsity():
    config = PruneConfig(num_updates=10, sparsity_warmup=0.4)

    targets = [target_sparsity(config, 0.6, 0.2, step) for step in range(10)]

    assert targets == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6])


def test_the_layer_map_starts_as_the_identity():
    states = torch.randn(3, 32)

    assert torch.equal(identity_map(32)(states), states)


@pytest.mark.slow
@pytest.mark.parametrize(("num_instances", "sparsity"), [(1, 0.6), (2, 0.9)])
def test_the_expected_sparsity_ends_at_the_requested_one(make_program, num_instances, sparsity):
    program = make_program(num_instances, sparsity=sparsity, num_updates=400)

    for step in range(400):
        torch.manual_seed(step)
        reached = float(program.update(step)["sparsity"])

    assert reached == pytest.approx(sparsity, abs=0.03)


def test_pruning_starts_from_the_teacher_so_its_first_loss_is_small(make_program):
    program = make_program(label_weight=0.0)
    with torch.no_grad():
        for gate in program.gates.parameters():
            gate.fill_(4.6)  # nearly always fully open

    assert float(program.update(0)["loss"]) < 0.05


def test_teacher_and_student_see_the_same_groups(make_program, monkeypatch):
    program, seen = make_program(), {}
    encode = MuxedBert.encode

    def remember(model, batch, masks=None):
        seen[id(model)] = (batch, masks)
        return encode(model, batch, masks)

    monkeypatch.setattr(MuxedBert, "encode", remember)
    program.update(2)

    students, masks = seen[id(program.model)]
    teachers, no_masks = seen[id(program.teacher)]
    assert teachers is students
    assert no_masks is None
    assert masks is not None


def test_gates_and_multipliers_move_and_stay_within_their_limits(make_program):
    program = make_program(gate_learning_rate=10.0)
    before = {name: p.detach().clone() for name, p in program.gates.named_parameters()}

    for step in range(3):
        program.update(step)

    for name, gate in program.gates.named_parameters():
        assert not torch.equal(gate, before[name])
        assert gate.detach().abs().max() <= torch.log(torch.tensor(100.0)) + 1e-6
    assert float(program.lagrangian.linear.detach()) != 0


def test_the_multipliers_climb_while_the_gates_descend(make_program):
    program = make_program(sparsity=0.9, sparsity_warmup=0.01)

    program.update(0)

    # Far below its target the sparsity gap is negative: ascent lowers the linear multiplier.
    assert float(program.lagrangian.linear.detach()) < 0
    assert float(program.lagrangian.quadratic.detach()) > 0


@pytest.mark.parametrize(
    "weights",
    [
        {"layer_distill_weight": 0.0},
        {"logit_distill_weight": 0.0},
        {"label_weight": 1.0},
    ],
)
def test_each_part_of_the_loss_can_be_weighted(make_program, weights):
    with_all, with_others = make_program(), make_program(**weights)

    losses = [float(program.update(0)["loss"]) for program in (with_all, with_others)]

    assert losses[0] != losses[1]
    assert all(loss >= 0 for loss in losses)


@pytest.mark.parametrize("word", LAYER_ALIGNMENTS)
def test_every_alignment_matches_the_layers_it_names(make_program, monkeypatch, word):
    program, seen = make_program(layer_alignment=word, logit_distill_weight=0.0), []

    def remember(student, teacher, layer_map, pairs, mask):
        seen.append((len(teacher), pairs))
        return layer_distillation(student, teacher, layer_map, pairs, mask)

    monkeypatch.setattr(prune, "layer_distillation", remember)
    loss = float(program.update(0)["loss"])

    num_teachers, pairs = seen[0]
    assert num_teachers == 3
    assert [row for row, _ in pairs] == [0, 1, 2]
    assert word != "fixed" or pairs == [(0, 0), (1, 1), (2, 2)]
    assert loss > 0


def test_fixed_alignment_leaves_out_a_layer_whose_sub_layers_are_both_closed(make_program):
    program = make_program(layer_alignment="fixed", logit_distill_weight=0.0)
    masks = open_masks(program.model.shape)
    for closed in ("head_layers", "feedforward_layers"):
        getattr(masks, closed)[0] = 0
    masks.head_layers[1] = 0
    states = [torch.zeros(1, 2, 32)] * 3
    teacher_states = [torch.full((1, 2, 32), float(2**k)) for k in range(3)]

    attended = torch.ones(1, 2) > 0, 1.0
    loss = program._layer_distillation(0, states, teacher_states, masks, attended)

    assert float(loss.detach()) == 4 + 16  # not the 1 of layer 0; layer 1 has its units


def test_teachers_are_drawn_anew_at_every_update_and_alike_by_the_same_seed(
    make_program, monkeypatch
):
    seen = []

    def remember(word, num_layers, random):
        seen.append((word, num_layers, int(random.integers(1 << 30))))
        return (0, 1, 2)

    monkeypatch.setattr(prune, "choose_teachers", remember)
    for step in (0, 1, 0):
        make_program(layer_alignment="windowed").update(step)

    assert seen[0][:2] == ("windowed", 3)
    assert seen[0] != seen[1]
    assert seen[0] == seen[2]


def test_layers_are_aligned_by_the_distances_in_what_all_processes_have(
    make_program,
):
    class Two(Processes):
        def exchange(self, value):
            return [value, [[5.0, 1.0], [1.0, 1.0]]]

    program = make_program()
    program.precision = replace(CPU, processes=Two(0, 2))

    distances = program._over_processes(torch.tensor([[2.0, 4.0], [8.0, 4.0]]), 0.25)

    assert distances.tolist() == [[5.5, 2.0], [3.0, 2.0]]
    assert distances.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "convention", "sparsity"),
    [
        (("heads", "intermediate"), "cofi", 0.6),
        (("head_layers", "feedforward_layers", "hidden"), "cofi", 0.6),
        (("intermediate",), "weights", 0.5),
    ],
)
def test_any_gates_and_convention_reach_the_requested_sparsity(
    make_program, kinds, convention, sparsity
):
    program = make_program(
        sparsity=sparsity, gates=kinds, sparsity_convention=convention, num_updates=150
    )

    for step in range(150):
        torch.manual_seed(step)
        program.update(step)
    masks = choose_structure(program.gates, sparsity)

    gates = program.gates
    assert float(gates.expected_sparsity().detach()) == pytest.approx(sparsity, abs=0.03)
    reached = 1 - float(gates.count.remaining(masks)) / gates.count.total
    unit = 2 * 32 / gates.count.total
    assert reached == pytest.approx(sparsity, abs=max(1e-3, unit))


def test_a_frozen_token_table_stays_as_it_is_while_pruning(make_program):
    program = make_program(freeze_embeddings=True)
    table = program.model.embeddings.tokens.weight
    before = table.detach().clone()

    for step in range(3):
        program.update(step)

    assert torch.equal(table, before)
    assert table not in program.optimizers["model"].state


def test_the_same_seed_prunes_the_same_units(make_program):
    programs = [make_program(), make_program()]

    for program in programs:
        for step in range(5):
            torch.manual_seed(step)
            program.update(step)

    first, second = (program.gates.state_dict() for program in programs)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_climb_begins_with_all_that_the_rung_below_ended_with(make_program):
    below, above = make_program(sparsity=0.5), make_program(sparsity=0.6)
    for step in range(30):
        torch.manual_seed(step)
        below.update(step)

    above.climb_from(below.state())

    ended, begun = below.state(), above.state()
    assert {"model", "gates", "lagrangian", "layer_map"} == {k.split(".")[0] for k in ended}
    assert begun.keys() == ended.keys()
    assert all(torch.equal(begun[name], tensor) for name, tensor in ended.items())


def test_the_target_of_a_climb_rises_from_what_the_rung_below_reached(make_program, monkeypatch):
    below, above = make_program(sparsity=0.5), make_program(sparsity=0.9)
    for step in range(30):
        torch.manual_seed(step)
        below.update(step)
    reached = float(below.gates.expected_sparsity().detach())
    seen = []
    forward = Lagrangian.forward

    def remember(lagrangian, sparsity, target):
        seen.append((float(sparsity.detach()), target))
        return forward(lagrangian, sparsity, target)

    above.climb_from(below.state())
    monkeypatch.setattr(Lagrangian, "forward", remember)
    above.update(0)

    ((expected, target),) = seen
    assert expected == reached > 0.1
    assert target == pytest.approx(reached + (0.9 - reached) / 20)  # 20 updates of warm-up


def test_the_last_weights_are_kept(make_program):
    assert make_program().evaluate() is None
