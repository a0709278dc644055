"""How sure the numbers of replayed searches are: bootstrap intervals and a one-sided test."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

NUM_RESAMPLES = 2000
LEVELS = (2.5, 97.5)
"""Percentiles of resampled values: a 95 % interval."""
_MOST_EXACT = 12
"""Pairs up to which all signs are tried; the normal approximation is good from there on."""


def bootstrap(
    groups: Sequence[Sequence[float]], statistics: Callable[[Array], Sequence[float]]
) -> list[tuple[float, float]]:
    """Yield the 95 % interval of each statistic of all values, given that groups are independent.

    Args:
        groups: Values that may depend on each other: the searches of one table.
        statistics: Yields one number or more of all values together.
    """
    rng = np.random.default_rng(0)
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    drawn = [
        statistics(
            np.concatenate([values[i] for i in rng.integers(len(values), size=len(values))])
        )
        for _ in range(NUM_RESAMPLES)
    ]
    lows, highs = np.percentile(drawn, LEVELS, axis=0)
    return list(zip(lows.tolist(), highs.tolist(), strict=True))


def interval_of_means(values: Array) -> tuple[Array, Array]:
    """Yield the ends `(M,)` of the 95 % intervals of the means of `(K, M)` over `K` tables."""
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(values), [1 / len(values)] * len(values), size=NUM_RESAMPLES)
    low, high = np.percentile(weights @ values / len(values), LEVELS, axis=0)
    return low, high


def signed_rank_p(differences: Sequence[float]) -> float:
    """Yield the chance of differences so far below 0 if their signs were drawn by lot.

    One-sided signed-rank test (Wilcoxon 1945), zeros ranked but not counted (Pratt 1959).
    """
    values = np.asarray(differences, dtype=np.float64)
    _, places, counts = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places] * np.abs(np.sign(values))
    found = float(ranks @ np.sign(values))
    signed = ranks[ranks > 0.0]
    if not len(signed):
        return 1.0
    if len(signed) <= _MOST_EXACT:
        sums = np.array(list(product((-1.0, 1.0), repeat=len(signed)))) @ signed
        return float(np.mean(sums <= found + 1e-9))
    return float(ndtr(found / math.sqrt(float(signed @ signed))))
