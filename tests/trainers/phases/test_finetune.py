from dataclasses import replace

import numpy as np
import pytest
import torch

from trainers.measure.accuracy import count_correct
from trainers.measure.batching import make_batch
from trainers.phase_config import FinetuneConfig
from trainers.phases.finetune import FinetuneProgram, teacher_view
from trainers.phases.losses import logit_distillation, masked_mse, task_loss
from trainers.phases.precision import Precision

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


def test_a_teacher_of_the_same_width_reads_the_batch_itself(make_model, make_groups):
    batch = make_groups(2)

    assert teacher_view(make_model(2), batch) is batch
    assert teacher_view(make_model(1), batch).input_ids.shape == (6, 1, 9)


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
