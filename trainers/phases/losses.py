"""Losses: task, prediction distillation, state distillation, aligned layers (CoFi).

Symbols: `B` groups, `N` instances, `T` tokens, `D` hidden size, `C` classes, `L` layers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of `(B, N, C)` logits with `(B, N)` class ids, mean over sequences."""
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


def logit_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softened predictions `(B, N, C)`, mean over sequences."""
    log_student = F.log_softmax(student.flatten(0, 1).float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.flatten(0, 1).float() / temperature, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def masked_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of `(..., D)` states over the places where `mask` `(...)` is true."""
    squares = (student.float() - teacher.float()).square().mean(dim=-1)
    return (squares * mask).sum() / mask.sum().clamp(min=1)


def teacher_layers(num_layers: int) -> tuple[int, ...]:
    """Yield up to four evenly spaced layers, the last among them: (2, 5, 8, 11) of twelve."""
    count = min(4, num_layers)
    return tuple((j + 1) * num_layers // count - 1 for j in range(count))


def align_layers(distances: Tensor, exists: Tensor) -> list[int]:
    """Choose a student layer for each teacher layer, keeping their order (CoFi, section 2.3).

    From the last teacher layer down, the closest student layer is taken among those that exist and
    lie below the one chosen before; if there is none, that one is taken again.

    Args:
        distances: `(teachers, L)` mean squared errors.
        exists: `(L,)` booleans: attention or feed-forward sub-layer is open.

    Returns:
        One student layer per teacher layer.
    """
    num_layers = distances.shape[1]
    below, chosen = num_layers, list[int]()
    for row in distances.flip(0):
        allowed = exists & (torch.arange(num_layers, device=exists.device) < below)
        if allowed.any():
            below = int(row.masked_fill(~allowed, torch.inf).argmin())
        elif not chosen:
            below = num_layers - 1
        chosen.append(below)
    return chosen[::-1]


def layer_distillation(
    student: list[Tensor],
    teacher: list[Tensor],
    layer_map: torch.nn.Linear,
    exists: Tensor,
    mask: Tensor,
) -> Tensor:
    """Sum over teacher layers of the error of the aligned student layers after `layer_map`.

    Args:
        student: L states `(B, T, D)` under gates.
        teacher: L states `(B, T, D)`.
        layer_map: Linear map from student to teacher states, identity at the start.
        exists: `(L,)` booleans.
        mask: `(B, T)` booleans: positions where any instance has a token.
    """
    targets = [teacher[i] for i in teacher_layers(len(teacher))]
    with torch.no_grad():
        mapped = [layer_map(states) for states in student]
        rows = [torch.stack([masked_mse(m, t, mask) for m in mapped]) for t in targets]
        aligned = align_layers(torch.stack(rows), exists)
    losses = [
        masked_mse(layer_map(student[layer]), target, mask)
        for layer, target in zip(aligned, targets, strict=True)
    ]
    return torch.stack(losses).sum()
