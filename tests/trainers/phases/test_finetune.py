from dataclasses import replace

import numpy as np
import pytest
import torch

from trainers.measure.accuracy import count_correct
from trainers.measure.batching import make_batch
from trainers.phase_config import FinetuneConfig, TaughtConfig
from trainers.phases.finetune import FinetuneProgram
from trainers.phases.layers import LayerMatcher
from trainers.phases.losses import logit_distillation, masked_mse, task_loss
from trainers.phases.precision import Precision
from trainers.phases.retrieval import Slots, Vocabulary, slot_loss

CPU = Precision(torch.device("cpu"))


@pytest.fixture
def make_program(make_model, make_encoded):
    def build(num_instances=2, *, teacher=None, **changes):
        values = {"num_updates": 4, "batch_size": 8, "learning_rate": 1e-2, **changes}
        model = make_model(num_instances, dtype=torch.float32)
        return FinetuneProgram(
            model,
            teacher,
            make_encoded(40),
            make_encoded(25, seed=1),
            FinetuneConfig(**values),
            seed=0,
            precision=CPU,
        )

    return build


def remember_batches(model):
    """Yield the list to which every batch that `model` reads is added."""
    seen = []
    model.embeddings.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


@pytest.mark.parametrize("teacher_width", [1, 2])
def test_teacher_and_student_see_the_same_sequences_in_the_same_order(
    make_program, make_model, teacher_width
):
    teacher = make_model(teacher_width, seed=1, dtype=torch.float32)
    program = make_program(2, teacher=teacher, distill_weight=0.5, num_updates=2)
    student_batches, teacher_batches = remember_batches(program.model), remember_batches(teacher)

    program.update(3)

    (students,), (teachers,) = student_batches, teacher_batches
    groups = program.sampler.groups(3)
    ids = program.examples.input_ids[groups][..., : students.input_ids.shape[-1]]
    assert np.array_equal(students.input_ids.numpy(), ids)
    assert teachers.input_ids.shape == (16 // teacher_width, teacher_width, ids.shape[-1])
    for name, tensor in vars(students).items():
        assert torch.equal(getattr(teachers, name).flatten(0, 1), tensor.flatten(0, 1))


@pytest.mark.parametrize("temperature", [2.0, 5.0])
def test_the_loss_mixes_labels_logits_and_states(make_program, make_model, temperature):
    teacher = make_model(1, seed=1, dtype=torch.float32)
    weights = {"distill_weight": 0.3, "state_distill_weight": 2.0, "temperature": temperature}
    program = make_program(2, teacher=teacher, **weights)
    batch_groups = program.sampler.groups(0)

    loss = float(program.update(0)["loss"])

    model = make_program(2).model  # with the weights from before the update
    with torch.no_grad():
        batch = make_batch(program.examples, batch_groups, CPU.device)
        states = model.encode(batch)[-1]
        logits = model.classify(states)
        target_states = teacher.encode(batch.as_single())[-1]
        target = teacher.classify(target_states).view(logits.shape)
        labels = torch.from_numpy(program.examples.labels[batch_groups])
        student = model.demux(states).transpose(1, 2).flatten(0, 1)
        state_error = masked_mse(student, target_states, batch.as_single().attention_mask[:, 0])
        expected = (
            0.7 * task_loss(logits, labels)
            + 0.3 * logit_distillation(logits, target, temperature)
            + 2.0 * state_error
        )
    assert loss == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture
def make_taught(make_model, make_encoded):
    """Build the training of a model of which half the hidden dimensions and one layer are left."""

    def build(num_instances=2, *, plain=None, **changes):
        values = {"num_updates": 4, "batch_size": 8, "learning_rate": 1e-2, **changes}
        config = TaughtConfig(layer_alignment="fixed", **values)
        left = {"hidden_size": 16, "head_counts": (4, 0, 4), "feedforward_sizes": (64, 0, 64)}
        same = make_model(num_instances, seed=2, dtype=torch.float32)
        torch.manual_seed(5)
        layers = LayerMatcher(same, torch.nn.Linear(16, 32), config, seed=0, precision=CPU)
        return FinetuneProgram(
            make_model(num_instances, dtype=torch.float32, **left),
            same if plain is None else plain,
            make_encoded(40),
            make_encoded(25, seed=1),
            config,
            seed=0,
            precision=CPU,
            layers=layers,
        )

    return build


@pytest.mark.parametrize(
    ("num_instances", "is_plain", "state_weight"),
    [(1, False, 0.0), (2, False, 0.0), (2, True, 0.0), (2, True, 2.0)],
)
def test_the_loss_of_a_compacted_model_has_its_share_of_matched_layers(
    make_taught, make_model, num_instances, is_plain, state_weight
):
    plain = make_model(1, seed=1, dtype=torch.float32) if is_plain else None
    weights = {"distill_weight": 0.8, "layer_distill_weight": 0.9, "temperature": 3.0}
    program = make_taught(num_instances, plain=plain, state_distill_weight=state_weight, **weights)
    model, same, layer_map = program.model, program.layers.teacher, program.layers.layer_map

    with torch.no_grad():  # of the weights before the update
        groups = program.sampler.groups(0)
        batch = make_batch(program.examples, groups, CPU.device)
        states, teacher_states = model.encode(batch), same.encode(batch)
        logits = model.classify(states[-1])
        labels = torch.from_numpy(program.examples.labels[groups])
        target = same.classify(teacher_states[-1])
        expected = 0.0
        if plain is not None:
            wanted = plain.encode(batch.as_single())[-1]
            target = plain.classify(wanted).view(logits.shape)
            student = model.token_states(states[-1]).transpose(1, 2).flatten(0, 1)
            error = masked_mse(student, wanted, batch.as_single().attention_mask[:, 0])
            expected = state_weight * float(error)
        mixed = 0.2 * task_loss(logits, labels) + 0.8 * logit_distillation(logits, target, 3.0)
        mask = model.attended(batch)
        layers = sum(masked_mse(layer_map(states[k]), teacher_states[k], mask) for k in (0, 2))
        expected += float(0.1 * mixed + 0.9 * layers)

    assert float(program.update(0)["loss"]) == pytest.approx(expected, rel=1e-4)


def test_without_a_weight_of_labels_they_teach_nothing(make_taught):
    right, wrong = (make_taught(distill_weight=1.0, layer_distill_weight=0.9) for _ in range(2))
    wrong.examples = replace(wrong.examples, labels=1 - wrong.examples.labels)

    assert float(right.update(0)["loss"]) == float(wrong.update(0)["loss"])


def test_the_layer_map_is_trained_and_kept_with_the_progress_of_the_phase(make_taught):
    program = make_taught(layer_distill_weight=0.5)
    before = program.modules["layer_map"].weight.detach().clone()

    program.update(0)

    assert not torch.equal(program.modules["layer_map"].weight, before)


@pytest.mark.parametrize("is_plain", [False, True])
def test_the_same_seed_trains_a_compacted_model_alike(make_taught, make_model, is_plain):
    plain = make_model(1, seed=1, dtype=torch.float32) if is_plain else None
    programs = [make_taught(plain=plain, layer_distill_weight=0.5) for _ in range(2)]

    for program in programs:
        for step in range(3):
            torch.manual_seed(step)
            program.update(step)

    first, second = (program.model.state_dict() for program in programs)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_both_teachers_of_a_compacted_model_see_the_groups_of_the_student(make_taught, make_model):
    plain = make_model(1, seed=1, dtype=torch.float32)
    program = make_taught(2, plain=plain, layer_distill_weight=0.5, num_updates=2)
    seen = [remember_batches(m) for m in (program.model, program.layers.teacher, plain)]

    program.update(3)

    (students,), (same,), (singles,) = seen
    assert same is students
    for name, tensor in vars(students).items():
        assert torch.equal(getattr(singles, name).flatten(0, 1), tensor.flatten(0, 1))


@pytest.mark.parametrize("num_instances", [1, 2])
def test_logits_of_an_n_1_teacher_are_computed_once_and_change_nothing(
    make_program, make_model, num_instances
):
    teacher = make_model(1, seed=1, dtype=torch.float32)
    asking, knowing = (
        make_program(num_instances, teacher=teacher, distill_weight=0.4, num_updates=updates)
        for updates in (2, 20)
    )
    seen = remember_batches(teacher)

    losses = [float(p.update(0)["loss"]) for p in (asking, knowing)]
    num_batches = len(seen)
    knowing.update(1)

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(seen) == num_batches


def test_matching_states_asks_the_teacher_every_time(make_program, make_model):
    teacher = make_model(1, seed=1, dtype=torch.float32)
    program = make_program(2, teacher=teacher, state_distill_weight=1.0, num_updates=20)
    seen = remember_batches(teacher)

    for step in range(3):
        program.update(step)

    assert len(seen) == 3


def test_a_frozen_token_table_stays_as_it_is_and_has_no_optimiser_state(make_program):
    program = make_program(freeze_embeddings=True)
    table = program.model.embeddings.tokens.weight
    before = table.detach().clone()

    for step in range(3):
        program.update(step)

    optimizer = program.optimizers["model"]
    assert torch.equal(table, before)
    assert table not in optimizer.state
    assert all(table is not p for group in optimizer.param_groups for p in group["params"])
    assert program.model.embeddings.positions.weight in optimizer.state


def test_a_token_table_frozen_before_is_trained_again_when_asked(make_program):
    program = make_program(freeze_embeddings=False)
    program.model.embeddings.tokens.weight.requires_grad_(False)
    again = FinetuneProgram(
        program.model,
        None,
        program.examples,
        program.held_out,
        program.config,
        seed=0,
        precision=CPU,
    )
    before = program.model.embeddings.tokens.weight.detach().clone()

    again.update(0)

    assert not torch.equal(program.model.embeddings.tokens.weight, before)


def test_the_teacher_is_never_trained(make_program, make_model):
    teacher = make_model(2, seed=1, dtype=torch.float32).train()
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    program = make_program(2, teacher=teacher, distill_weight=1.0)

    program.update(0)

    assert not teacher.training
    assert all(torch.equal(t, before[name]) for name, t in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("num_instances", [1, 2])
def test_the_score_is_the_accuracy_on_the_held_out_examples(make_program, num_instances):
    program = make_program(num_instances)

    score = program.evaluate()

    assert score == count_correct(program.model, program.held_out, CPU.device) / 25


def test_training_learns_an_easy_task(make_program):
    program = make_program(1, num_updates=60, learning_rate=3e-3)

    losses = [float(program.update(step)["loss"]) for step in range(60)]

    assert np.mean(losses[-5:]) < 0.3 < np.mean(losses[:5])


@pytest.mark.parametrize("num_parts", [2, 3])
def test_a_batch_in_parts_yields_the_gradients_of_the_whole(make_program, num_parts, monkeypatch):
    gradients = []

    def keep(optimizer):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients.append([None if p.grad is None else p.grad.clone() for p in parameters])

    monkeypatch.setattr("trainers.phases.finetune.clip_and_step", keep)
    whole, parted = make_program(2), make_program(2)
    for program in (whole, parted):
        for module in program.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    parted.precision = replace(CPU, num_parts=num_parts)

    losses = [program.update(0)["loss"] for program in (whole, parted)]

    torch.testing.assert_close(losses[0], losses[1])
    for one, many in zip(*gradients, strict=True):
        torch.testing.assert_close(one, many, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("is_taught", [False, True])
def test_the_loss_is_that_of_the_task_plus_the_weighted_one_of_retrieval(
    make_program, make_model, is_taught
):
    teacher = make_model(1, seed=1, dtype=torch.float32) if is_taught else None
    program = make_program(2, teacher=teacher, distill_weight=0.3, retrieval_weight=0.25)
    plain = make_program(2, teacher=teacher, distill_weight=0.3)
    head = program.modules["token_head"]
    before = head.transform.weight.detach().clone()
    torch.manual_seed(3)
    batch = make_batch(program.examples, program.sampler.groups(0), CPU.device)
    slots = Slots.draw(batch, 1)
    with torch.no_grad():
        states = program.model.eval().encode(batch)[-1]
        vocabulary = Vocabulary(program.examples, 100)
        named = float(slot_loss(program.model, head, states, batch, slots, vocabulary))

    torch.manual_seed(3)
    values = {name: float(value) for name, value in program.update(0).items()}

    assert values["retrieval_loss"] == pytest.approx(named, rel=1e-5)
    task = float(plain.update(0)["loss"])
    assert values["loss"] == pytest.approx(task + 0.25 * named, rel=1e-5)
    assert not torch.equal(head.transform.weight, before)


def test_a_plain_model_has_nothing_to_retrieve(make_program):
    program = make_program(1, retrieval_weight=0.25)

    assert program.modules.keys() == {"model"}
    assert program.update(0).keys() == {"loss"}


@pytest.mark.parametrize("freezes", [False, True])
def test_retrieval_in_parts_has_the_gradients_of_the_whole(make_program, freezes, monkeypatch):
    gradients = []

    def keep(optimizer):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients.append([None if p.grad is None else p.grad.clone() for p in parameters])

    monkeypatch.setattr("trainers.phases.finetune.clip_and_step", keep)
    weights = {"retrieval_weight": 0.5, "freeze_embeddings": freezes}
    whole, parted = make_program(2, **weights), make_program(2, **weights)
    parted.precision = replace(CPU, num_parts=3)
    parted.modules["token_head"].load_state_dict(whole.modules["token_head"].state_dict())

    losses = []
    for program in (whole, parted):
        torch.manual_seed(3)
        losses.append({name: float(value) for name, value in program.update(0).items()})

    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    table = whole.model.embeddings.tokens.weight
    trained = [p for group in whole.optimizers["model"].param_groups for p in group["params"]]
    assert any(p is table for p in trained) == (not freezes)
    for one, many in zip(*gradients, strict=True):
        torch.testing.assert_close(one, many, atol=1e-6, rtol=1e-4)
