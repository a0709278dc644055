import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from trainers.phases.losses import (
    align_layers,
    layer_distillation,
    logit_distillation,
    masked_mse,
    task_loss,
    teacher_layers,
)
from trainers.phases.prune import identity_map


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
@given(seed=st.integers(0, 1000), constant=st.floats(-5, 5), temperature=st.floats(0.5, 5))
def test_distillation_ignores_a_constant_added_to_the_logits(seed, constant, temperature):
    student, teacher = random_logits(seed), random_logits(seed + 1)

    moved = logit_distillation(student + constant, teacher - constant, temperature)

    expected = logit_distillation(student, teacher, temperature)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-4)


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


@pytest.mark.parametrize(
    ("num_layers", "layers"),
    [(12, (2, 5, 8, 11)), (6, (0, 2, 3, 5)), (4, (0, 1, 2, 3)), (3, (0, 1, 2)), (1, (0,))],
)
def test_teacher_layers_are_evenly_spaced_and_end_with_the_last(num_layers, layers):
    assert teacher_layers(num_layers) == layers


ALL = [True] * 5


@pytest.mark.parametrize(
    ("distances", "exists", "aligned"),
    [
        # Free choice: the smallest error of each row happens to be in order.
        ([[1, 5, 5, 5, 5], [5, 5, 1, 5, 5], [5, 5, 5, 5, 1]], ALL, [0, 2, 4]),
        # The last teacher layer takes student layer 2, so the one before must lie below it.
        ([[9, 9, 9, 1, 9], [3, 2, 1, 1, 1], [5, 5, 1, 5, 5]], ALL, [0, 1, 2]),
        # Nothing lies below layer 0: it is taken again.
        ([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], ALL, [0, 0, 0]),
        # A layer that is gone is never chosen, whatever its error.
        ([[9, 3, 0, 2, 9], [9, 9, 9, 0, 1]], [True, True, False, False, True], [1, 4]),
        # Rank order: sorted by error the layers are (1, 3, 2, 0); a mask of existing layers put on
        # those ranks would drop layer 2 and let the missing layer 3 through.
        ([[4, 1, 3, 2]], [True, False, True, False], [2]),
        # Nothing exists: the last state is as good as any.
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [False] * 4, [3, 3]),
    ],
)
def test_layers_are_aligned_from_the_top_in_order_among_existing_ones(distances, exists, aligned):
    chosen = align_layers(torch.tensor(distances, dtype=torch.float), torch.tensor(exists))

    assert chosen == aligned


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), num_layers=st.integers(1, 8), data=st.data())
def test_aligned_layers_never_cross_and_always_exist(seed, num_layers, data):
    exists = data.draw(st.lists(st.booleans(), min_size=num_layers, max_size=num_layers))
    distances = torch.rand(4, num_layers, generator=torch.Generator().manual_seed(seed))

    chosen = align_layers(distances, torch.tensor(exists))

    assert chosen == sorted(chosen)
    assert all(exists[layer] for layer in chosen) or not any(exists)


def random_states(seed, num_layers=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 5, 8, generator=generator) for _ in range(num_layers)]


def test_layer_distillation_with_the_first_map_is_the_raw_error_of_aligned_layers():
    student, teacher = random_states(0), random_states(1)
    mask = torch.ones(2, 5, dtype=torch.bool)
    exists = torch.tensor([True, True, True])

    loss = layer_distillation(student, teacher, identity_map(8), exists, mask)

    errors = torch.stack(
        [torch.stack([F.mse_loss(student[i], teacher[j]) for i in range(3)]) for j in range(3)]
    )
    aligned = align_layers(errors, exists)
    expected = sum(errors[j, i] for j, i in enumerate(aligned))
    torch.testing.assert_close(loss, expected)


def test_layer_distillation_of_equal_models_is_zero():
    states = random_states(0)
    mask = torch.ones(2, 5, dtype=torch.bool)

    loss = layer_distillation(states, states, identity_map(8), torch.ones(3) > 0, mask)

    assert float(loss.detach()) == pytest.approx(0, abs=1e-10)


def test_layer_distillation_teaches_the_map_and_the_student():
    student = [states.requires_grad_() for states in random_states(0)]
    layer_map = identity_map(8)
    mask = torch.ones(2, 5, dtype=torch.bool)

    layer_distillation(
        student, random_states(1), layer_map, torch.tensor([False, False, True]), mask
    ).backward()

    assert layer_map.weight.grad.abs().sum() > 0
    assert [states.grad is not None for states in student] == [False, False, True]
