"""Which untrained models a calibration times: the few that pin down the law for all others.

Timings are noisy, and a coefficient that few of them depend on is badly known. So the shapes are
chosen from a pool of such as pruning leaves, to make the mean variance of predicted log seconds
over the whole pool small (an I-optimal design, by greedy exchange).

The pool is drawn at random, always the same. Shapes whose layers are all alike would tell less:
they run a few per cent faster than such as pruning leaves.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import EncoderFacts, EncoderShape
from autoprumux.surrogates.pruned_shapes import draw_pruned
from autoprumux.surrogates.structure_latency import (
    MAX_TIMINGS,
    TYPICAL,
    StructureLatency,
    dense_shape,
    relative_terms,
    sparsity_of,
)

Array = NDArray[np.float64]

_SEED, _NUM_DRAWN = 0, 40
"""Shapes of each width in the pool."""
_LEAST_SPARSITY = 0.5
_RIDGE = 1e-6
_NUM_PASSES = 2


def calibration_shapes(
    encoder: EncoderFacts, widths: Sequence[int], length: int
) -> list[EncoderShape]:
    """Yield at most ten shapes to time, the dense baseline first.

    Args:
        encoder: What they have in common.
        widths: Mux widths N that will be asked about; 1 is added.
        length: Tokens in a sequence.
    """
    pool = _pool(encoder, sorted({1, *widths}))
    law = StructureLatency(encoder, length, TYPICAL, 0.0)
    rows = relative_terms(encoder, length, pool, law.shares(pool))[1:]  # the baseline isn't fitted
    chosen: list[int] = []
    while len(chosen) < min(MAX_TIMINGS - 1, len(rows)):
        chosen.append(_best_choice(rows, chosen))
    for place in [*range(len(chosen))] * _NUM_PASSES:
        others = chosen[:place] + chosen[place + 1 :]
        chosen[place] = _best_choice(rows, others)
    return [pool[0], *(pool[1 + index] for index in chosen)]


def _pool(encoder: EncoderFacts, widths: Sequence[int]) -> list[EncoderShape]:
    """Yield the baseline and pruned shapes of every width; see the law for other dense ones."""
    random = np.random.default_rng(_SEED)
    pool = [dense_shape(encoder, 1)]
    for num_instances in widths:
        drawn = [draw_pruned(encoder, num_instances, random) for _ in range(_NUM_DRAWN)]
        pool += [shape for shape in drawn if sparsity_of(encoder, shape) >= _LEAST_SPARSITY]
    return list(dict.fromkeys(pool))


def _best_choice(rows: Array, chosen: Sequence[int]) -> int:
    """Yield the row which, added to the chosen ones, makes the mean variance smallest.

    Adding `x` to `A` lowers the variance of `r` by `(r' A^-1 x)^2 / (1 + x' A^-1 x)`.
    """
    design = rows[list(chosen)]
    inverse = np.linalg.inv(design.T @ design + _RIDGE * np.eye(rows.shape[1]))
    mixed = rows @ inverse @ rows.T  # (pool, pool)
    gains = np.square(mixed).mean(axis=0) / (1.0 + np.diag(mixed))
    gains[list(chosen)] = -1.0
    return int(gains.argmax())
