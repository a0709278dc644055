"""Losses: task, prediction distillation, state distillation, aligned layers (CoFi).

Symbols: `B` groups, `N` instances, `T` tokens, `D` hidden size, `C` classes, `L` layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of `(B, N, C)` logits with `(B, N)` class ids, mean over sequences."""
    return F.cross_entropy(_precise(logits).flatten(0, 1), labels.flatten())


def logit_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softened predictions `(B, N, C)`, mean over sequences."""
    log_student = F.log_softmax(_precise(student).flatten(0, 1) / temperature, dim=-1)
    log_teacher = F.log_softmax(_precise(teacher).flatten(0, 1) / temperature, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def masked_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of `(..., D)` states over the places where `mask` `(...)` is true."""
    squares = (_precise(student) - _precise(teacher)).square().mean(dim=-1)
    return (squares * mask).sum() / mask.sum().clamp(min=1)


@torch.no_grad()
def layer_distances(
    student: Sequence[Tensor], teacher: Sequence[Tensor], layer_map: nn.Linear, mask: Tensor
) -> Tensor:
    """Yield the `(teachers, L)` errors of all pairs; see `layer_distillation`.

    One student layer at a time: stacked, all of them leave the caches of a CPU and take twice as
    long.
    """
    places = mask.flatten().nonzero().squeeze(1)
    targets = [_at(states, places).float() for states in teacher]
    mapped = (layer_map(_at(states, places)).float() for states in student)
    columns = [torch.stack([F.mse_loss(states, t) for t in targets]) for states in mapped]
    return torch.stack(columns, dim=1)


def layer_distillation(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    layer_map: nn.Linear,
    pairs: Sequence[tuple[int, int]],
    mask: Tensor,
) -> Tensor:
    """Sum over pairs of the error of the student layer after `layer_map` (CoFi, section 2.3).

    Args:
        student: L states `(B, T, D)` under gates.
        teacher: States `(B, T, D)` of the teacher layers to match.
        layer_map: Linear map from student to teacher states, identity at the start.
        pairs: A place in `teacher` and a student layer each; without any the loss is zero.
        mask: `(B, T)` booleans: positions where any instance has a token.
    """
    if not pairs:
        return torch.zeros((), device=mask.device)
    places = mask.flatten().nonzero().squeeze(1)
    losses = [
        F.mse_loss(
            layer_map(_at(student[layer], places)).float(), _at(teacher[row], places).float()
        )
        for row, layer in pairs
    ]
    return torch.stack(losses).sum()


def _precise(tensor: Tensor) -> Tensor:
    """Yield the tensor in single precision at least: sums of halves lose what losses tell."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _at(states: Tensor, places: Tensor) -> Tensor:
    """Yield `(K, D)` of the `(B, T, D)` states, those at `places` of all B T."""
    flat = states.flatten(0, 1)
    return flat if len(places) == len(flat) else flat.index_select(0, places)
