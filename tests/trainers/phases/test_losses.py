import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import seeds
from torch.nn import functional as F

from trainers.phases.layers import identity_map
from trainers.phases.losses import (
    layer_distances,
    layer_distillation,
    logit_distillation,
    masked_mse,
    task_loss,
)


def random_logits(seed, num_classes=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 2, num_classes, generator=generator)


def test_task_loss_is_the_mean_cross_entropy_over_all_instances():
    logits, labels = random_logits(0), torch.tensor([[0, 1], [2, 0], [1, 1], [2, 2]])

    each = [-F.log_softmax(logits[g, i], -1)[labels[g, i]] for g in range(4) for i in range(2)]

    torch.testing.assert_close(task_loss(logits, labels), torch.stack(each).mean())


def test_distillation_is_zero_when_the_student_equals_the_teacher():
    logits = random_logits(0)

    assert float(logit_distillation(logits, logits.clone(), 2.0)) == pytest.approx(0, abs=1e-7)


@settings(max_examples=20, deadline=None)
@given(
    seed=seeds(),
    num_classes=st.integers(2, 5),
    constant=st.floats(-5, 5),
    temperature=st.floats(0.5, 5),
)
def test_distillation_ignores_a_constant_added_to_the_logits(
    seed, num_classes, constant, temperature
):
    student, teacher = (random_logits(seed + k, num_classes).double() for k in range(2))

    moved = logit_distillation(student + constant, teacher - constant, temperature)

    expected = logit_distillation(student, teacher, temperature)
    assert moved.dtype == torch.float64
    torch.testing.assert_close(moved, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_of_less_than_double_precision_are_in_single(dtype):
    student, teacher = (random_logits(k).to(dtype) for k in range(2))

    losses = [
        logit_distillation(student, teacher, 2.0),
        task_loss(student, torch.zeros(4, 2, dtype=torch.long)),
        masked_mse(student, teacher, torch.ones(4, 2, dtype=torch.bool)),
    ]

    assert {loss.dtype for loss in losses} == {torch.float32}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_distillation_is_the_softened_divergence_times_the_squared_temperature(temperature):
    student, teacher = random_logits(0), random_logits(1)

    loss = logit_distillation(student, teacher, temperature)

    p = F.softmax(teacher.view(8, 3) / temperature, dim=-1)
    q = F.softmax(student.view(8, 3) / temperature, dim=-1)
    divergence = (p * (p / q).log()).sum(dim=-1).mean()
    torch.testing.assert_close(loss, temperature**2 * divergence, atol=1e-7, rtol=1e-5)


def test_distillation_pulls_the_student_towards_the_teacher():
    student, teacher = random_logits(0).requires_grad_(), random_logits(1)

    before = logit_distillation(student, teacher, 2.0)
    before.backward()

    with torch.no_grad():
        after = logit_distillation(student - 0.5 * student.grad, teacher, 2.0)
    assert after < before


def test_state_errors_count_only_where_the_mask_is_true():
    student = torch.zeros(2, 3, 4)
    teacher = torch.tensor([[1.0, 2.0, 100.0], [3.0, 100.0, 100.0]])[..., None].expand(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, False, False]])

    assert float(masked_mse(student, teacher, mask)) == pytest.approx((1 + 4 + 9) / 3)


def test_state_errors_without_any_place_are_zero():
    states = torch.ones(2, 3, 4)

    assert masked_mse(states, -states, torch.zeros(2, 3, dtype=torch.bool)) == 0


def random_states(seed, num_layers=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 5, 8, generator=generator) for _ in range(num_layers)]


def test_distances_are_the_raw_errors_of_all_pairs_while_the_map_is_the_identity():
    student, teacher = random_states(0), random_states(1)[:2]

    distances = layer_distances(student, teacher, identity_map(8), torch.ones(2, 5) > 0)

    expected = [[F.mse_loss(student[i], teacher[j]) for i in range(3)] for j in range(2)]
    torch.testing.assert_close(distances, torch.tensor(expected))


def test_layer_distillation_with_the_first_map_is_the_raw_error_of_the_pairs():
    student, teacher = random_states(0), random_states(1)
    mask = torch.ones(2, 5, dtype=torch.bool)

    loss = layer_distillation(student, teacher, identity_map(8), [(0, 0), (1, 2), (2, 2)], mask)

    expected = sum(F.mse_loss(student[i], teacher[j]) for j, i in [(0, 0), (1, 2), (2, 2)])
    torch.testing.assert_close(loss, expected)


def test_layer_distillation_leaves_padding_out():
    student, teacher = random_states(0), random_states(1)
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])

    loss = layer_distillation(student, teacher, identity_map(8), [(1, 1)], mask)

    torch.testing.assert_close(loss, F.mse_loss(student[1][mask], teacher[1][mask]))


def test_layer_distillation_without_any_pair_is_zero():
    states = random_states(0)

    assert layer_distillation(states, states, identity_map(8), [], torch.ones(2, 5) > 0) == 0


def test_layer_distillation_teaches_the_map_and_the_paired_layers():
    student = [states.requires_grad_() for states in random_states(0)]
    layer_map = identity_map(8)

    layer_distillation(
        student, random_states(1), layer_map, [(0, 2), (2, 2)], torch.ones(2, 5) > 0
    ).backward()

    assert layer_map.weight.grad.abs().sum() > 0
    assert [states.grad is not None for states in student] == [False, False, True]
