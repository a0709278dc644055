import numpy as np
import pytest
import torch

from trainers.measure.batching import make_batch
from trainers.models.masks import Gates, Lagrangian
from trainers.models.muxed_bert import MuxedBert
from trainers.models.structure import choose_structure
from trainers.phase_config import PruneConfig
from trainers.phases.losses import logit_distillation, masked_mse, task_loss
from trainers.phases.precision import Precision
from trainers.phases.prune import PruneProgram, target_sparsity
from trainers.phases.teachers import TeacherModels

CPU = Precision(torch.device("cpu"))


@pytest.fixture
def make_program(make_model, make_encoded):
    def build(num_instances=2, *, sparsity=0.6, plain=None, **changes):
        torch.manual_seed(0)
        values = {"num_updates": 40, "batch_size": 4, "learning_rate": 1e-3, **changes}
        config = PruneConfig(**values)
        model = make_model(num_instances, dtype=torch.float32)
        return PruneProgram(
            model,
            TeacherModels(
                None
                if config.teacher == "plain"
                else make_model(num_instances, seed=2, dtype=torch.float32),
                plain,
            ),
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
    program.model.load_state_dict(program.teachers.same_width.state_dict())
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
    teachers, no_masks = seen[id(program.teachers.same_width)]
    assert teachers is students
    assert no_masks is None
    assert masks is not None


def remember_batches(model):
    """Yield the list to which every batch that `model` reads is added."""
    seen = []
    model.embeddings.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


@pytest.mark.parametrize("teacher", ["plain", "both"])
def test_the_n_1_teacher_reads_the_sequences_of_the_same_groups_one_by_one(
    make_program, make_model, teacher
):
    plain = make_model(1, seed=1, dtype=torch.float32)
    program = make_program(2, plain=plain, teacher=teacher, state_distill_weight=1.0)
    others = [model for model in (program.teachers.same_width,) if model is not None]
    students, teachers, *same = map(remember_batches, (program.model, plain, *others))

    program.update(3)

    assert len(students) == len(teachers) == 1
    groups = program.sampler.groups(3)
    ids = program.examples.input_ids[groups][..., : students[0].input_ids.shape[-1]]
    assert np.array_equal(students[0].input_ids.numpy(), ids)
    assert teachers[0].input_ids.shape == (8, 1, ids.shape[-1])
    for name, tensor in vars(students[0]).items():
        assert torch.equal(getattr(teachers[0], name).flatten(0, 1), tensor.flatten(0, 1))
    assert [batches[0] is students[0] for batches in same] == [True] * (teacher == "both")


@pytest.mark.parametrize("teacher", ["same_width", "plain", "both"])
@pytest.mark.parametrize("state_weight", [0.0, 2.0])
def test_the_loss_is_the_sum_of_its_parts(make_program, make_model, teacher, state_weight):
    plain = None if teacher == "same_width" else make_model(1, seed=1, dtype=torch.float32)
    weights = {"logit_distill_weight": 0.3, "layer_distill_weight": 0.7, "label_weight": 0.2}
    weights |= {"temperature": 3.0, "teacher": teacher, "layer_alignment": "fixed"}
    weights["state_distill_weight"] = state_weight if plain else 0.0
    program = make_program(2, plain=plain, num_updates=2, **weights)
    model, same, groups = program.model, program.teachers.same_width, program.sampler.groups(0)

    with torch.no_grad():  # of the weights before the update
        batch, masks = make_batch(program.examples, groups, CPU.device), program._sample_masks(0)
        states = model.encode(batch, masks)
        logits = model.classify(states[-1])
        labels = torch.from_numpy(program.examples.labels[groups])
        expected = 0.2 * task_loss(logits, labels)
        if plain is None:
            target = same(batch)
        else:
            wanted = plain.encode(batch.as_single())[-1]
            target = plain.classify(wanted).view(logits.shape)
            student = model.token_states(states[-1]).transpose(1, 2).flatten(0, 1)
            error = masked_mse(student, wanted, batch.as_single().attention_mask[:, 0])
            expected += state_weight * error
        expected += 0.3 * logit_distillation(logits, target, 3.0)
        if same is not None:
            pairs = zip(states, same.encode(batch), strict=True)
            expected += 0.7 * sum(masked_mse(s, t, model.attended(batch)) for s, t in pairs)
        assert not (masks.skips_attention & masks.skips_feedforward).any()

    assert float(program.update(0)["loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_logits_of_an_n_1_teacher_of_pruning_are_computed_once_and_change_nothing(
    make_program, make_model
):
    plain = make_model(1, seed=1, dtype=torch.float32)
    asking, knowing = (
        make_program(2, plain=plain, teacher="both", num_updates=updates) for updates in (2, 20)
    )
    seen = remember_batches(plain)

    losses = [float(program.update(0)["loss"]) for program in (asking, knowing)]
    num_batches = len(seen)
    knowing.update(1)

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(seen) == num_batches


@pytest.mark.parametrize("teacher", ["plain", "both"])
def test_the_same_seed_prunes_alike_with_an_n_1_teacher(make_program, make_model, teacher):
    programs = [
        make_program(
            2,
            plain=make_model(1, seed=1, dtype=torch.float32),
            teacher=teacher,
            state_distill_weight=1.0,
        )
        for _ in range(2)
    ]

    for program in programs:
        for step in range(3):
            torch.manual_seed(step)
            program.update(step)

    first, second = (program.state() for program in programs)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("num_instances", [1, 2])
def test_without_layers_or_states_to_match_only_the_first_position_leaves_the_last_layer(
    make_program, monkeypatch, num_instances
):
    program = make_program(num_instances, layer_distill_weight=0.0)
    batch = make_batch(program.examples, program.sampler.groups(0), CPU.device)
    masks, read = program._sample_masks(0), []
    classify = MuxedBert.classify

    def remember(model, states):
        read.append(states.shape[1])
        return classify(model, states)

    with torch.no_grad():
        expected = program.model.classify(program.model.encode(batch, masks)[-1])
        monkeypatch.setattr(MuxedBert, "classify", remember)
        logits = program.model(batch, masks)

    program.update(0)

    assert read == [1, 1, 1]  # here, of the teacher and of the student
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


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
