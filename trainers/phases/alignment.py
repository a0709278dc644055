"""Which student layer learns from which teacher layer (CoFi, section 2.3), by word.

`L` layers, counted from 0.
"""

import numpy as np
import torch
from torch import Tensor

NUM_TEACHERS = 4
"""Teacher layers that are matched, unless every layer has its own."""


def teacher_layers(num_layers: int) -> tuple[int, ...]:
    """Yield up to four evenly spaced layers, the last among them: (2, 5, 8, 11) of twelve."""
    count = min(NUM_TEACHERS, num_layers)
    return tuple((j + 1) * num_layers // count - 1 for j in range(count))


def choose_teachers(
    alignment: str, num_layers: int, random: np.random.Generator
) -> tuple[int, ...]:
    """Yield the teacher layers of one update in rising order.

    Args:
        alignment: Word of `PruneConfig.layer_alignment`.
        num_layers: L.
        random: Source of `random` and `windowed` layers (RAIL-KD, Haidar et al. 2022).
    """
    if alignment == "fixed":
        return tuple(range(num_layers))
    spaced = teacher_layers(num_layers)
    if alignment == "random":
        return tuple(sorted(random.choice(num_layers, len(spaced), replace=False).tolist()))
    if alignment == "windowed":
        starts = (0, *(last + 1 for last in spaced[:-1]))
        return tuple(
            int(random.integers(first, last, endpoint=True))
            for first, last in zip(starts, spaced, strict=True)
        )
    return spaced


def same_layers(exists: Tensor) -> list[tuple[int, int]]:
    """Pair every student layer that exists with the same teacher layer (`fixed`).

    Args:
        exists: `(L,)` booleans: attention or feed-forward sub-layer is open.
    """
    return [(layer, layer) for layer in exists.nonzero().flatten().tolist()]


def align_layers(alignment: str, distances: Tensor, exists: Tensor) -> list[tuple[int, int]]:
    """Pair each row of `distances`, one for each teacher layer, with a student layer.

    `free` takes the closest layer, whether it exists or not; the other words take the closest
    among those that exist and keep the teachers' order.

    Args:
        alignment: Word of `PruneConfig.layer_alignment`, but `fixed`.
        distances: `(teachers, L)` mean squared errors.
        exists: See `same_layers`.

    Returns:
        Pairs of a row and a student layer, in the order of the rows.
    """
    if alignment == "free":
        return list(enumerate(distances.argmin(dim=1).tolist()))
    return list(enumerate(_in_order(distances, exists)))


def _in_order(distances: Tensor, exists: Tensor) -> list[int]:
    """Choose from the last teacher layer down the closest among existing layers below the last.

    If there is none below the layer chosen before, that one is taken again.
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
