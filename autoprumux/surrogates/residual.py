"""What a trend leaves over, interpolated between the measured points.

Symbols: `x = log2 N` and `c = -log2(1 - s)`, so that halving the remaining weights counts as much
    as doubling the width and the way from s = 0.90 to 0.95 as much as from 0 to 0.5. Correlation
    of two points `exp(-(|dx| + |dc|) / scale)`: in one dimension nearly a straight line between
    the points, fading outside.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate

Array = NDArray[np.float64]

_SCALE = 1.5
_SIGNS = np.array([1.0, -1.0])
_JITTER = 1e-10
"""Keeps the system solvable; far below the 1e-6 that any printed digit shows."""


class ResidualField:
    """Interpolates `K` residuals, and says how much is unexplained elsewhere.

    Args:
        candidates: The measured points.
        residuals: `(K,)` what the trend leaves over there.
        noise: `(K,)` variance of each residual's own error, in units of the residuals' variance; 0
            where the field passes through the residual.
    """

    def __init__(
        self, candidates: Sequence[Candidate], residuals: Array, noise: Array | None = None
    ) -> None:
        self._points = coordinates(candidates)
        own = np.zeros(len(candidates)) if noise is None else noise
        gram = correlation(self._points, self._points) + np.diag(own + _JITTER)
        self._inverse = np.linalg.inv(gram)
        self._weights = self._inverse @ residuals

    def mean(self, candidates: Sequence[Candidate]) -> Array:
        """Residual expected at `M` candidates, `(M,)`; 0 far from all points."""
        cross = correlation(coordinates(candidates), self._points)
        return np.asarray(cross @ self._weights, dtype=np.float64)

    def unexplained(self, candidates: Sequence[Candidate]) -> Array:
        """Share of the residual's variance left at `M` candidates: 0 at points, 1 far away."""
        cross = correlation(coordinates(candidates), self._points)
        left = 1.0 - np.einsum("mk,kl,ml->m", cross, self._inverse, cross)
        return np.asarray(np.clip(left, 0.0, 1.0), dtype=np.float64)


def coordinates(candidates: Sequence[Candidate]) -> Array:
    """`(K, 2)` coordinates `(x, c)`."""
    pairs = [(c.num_instances, 1.0 - c.sparsity) for c in candidates]
    logs = np.log2(np.array(pairs, dtype=np.float64).reshape(-1, 2))
    return np.asarray(logs * _SIGNS, dtype=np.float64)


def correlation(left: Array, right: Array) -> Array:
    """`(M, K)` correlations of the residuals at coordinates `(M, 2)` and `(K, 2)`."""
    distance = np.abs(left[:, None, :] - right[None, :, :]).sum(axis=2)
    return np.asarray(np.exp(-distance / _SCALE), dtype=np.float64)
