"""Which untrained models a calibration times: the few that pin down the law for all others.

Timings are noisy, and a coefficient that few of them depend on is badly known. So the shapes are
chosen from a pool of such as pruning leaves, to make the mean variance of predicted log seconds
over the whole pool small (an I-optimal design, by greedy exchange).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import EncoderFacts, EncoderShape
from autoprumux.surrogates.structure_latency import (
    MAX_TIMINGS,
    TYPICAL,
    StructureLatency,
    dense_shape,
    relative_terms,
    sparsity_of,
)

Array = NDArray[np.float64]

_LAYERS = ((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 1.0))
"""Which quarters of the layers keep attention; pruning prefers the first to the last."""
_HEADS, _UNITS, _HIDDEN = (0.25, 0.75, 1.0), (0.02, 0.15, 0.45), (1.0, 0.98)
"""Shares that stay; it prefers heads to feed-forward units, but leaves some of these and most
hidden dimensions. A model of attention alone would pin down coefficients that suit no other."""
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
    """Yield the dense shapes, the baseline first, and pruned ones of every width."""
    pool = [dense_shape(encoder, num_instances) for num_instances in widths]
    for num_instances, layers, *shares in product(widths, _LAYERS, _HEADS, _UNITS, _HIDDEN):
        shape = _pruned(encoder, num_instances, layers, *shares)
        if sparsity_of(encoder, shape) >= _LEAST_SPARSITY:
            pool.append(shape)
    return list(dict.fromkeys(pool))


def _pruned(
    encoder: EncoderFacts,
    num_instances: int,
    layers: Sequence[float],
    heads: float,
    units: float,
    hidden: float,
) -> EncoderShape:
    num_layers = encoder.num_layers
    attends = [layers[4 * layer // num_layers] for layer in range(num_layers)]
    num_heads = max(1, round(heads * encoder.dense_num_heads))
    num_units = _size(units, encoder.dense_feedforward_size)
    return EncoderShape(
        num_instances,
        _size(hidden, encoder.dense_hidden_size),
        tuple(num_heads if attend else 0 for attend in attends),
        tuple(num_units if attend or units < 0.1 else 0 for attend in attends),
    )


def _size(share: float, dense_size: int) -> int:
    """Yield none, all, or an odd number near the share, as pruning leaves it."""
    if share in (0.0, 1.0):
        return round(share * dense_size)
    return min(round(share * dense_size) | 1, dense_size)


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
