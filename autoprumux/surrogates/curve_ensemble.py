"""Many curves, weighted by what was measured, with a Gaussian process for what each leaves over.

Symbols: `E` curves, `K` measured points, `M` candidates, `R` sizes that the rest may have, `T`
members: the pairs of a curve and a size that are left once the unlikely ones are dropped. A member
predicts a normal distribution, all together a mixture of `T` normals.

The sizes let the measurements tell how far to trust the curves: where these fit, predictions are
theirs; where they don't, predictions pass between the measured points and their intervals widen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.curves import LossCurves, places
from autoprumux.surrogates.residual import coordinates, correlation

Array = NDArray[np.float64]

NUM_MEMBERS = 400
"""Members drawn by their weight; those drawn several times count so often."""
REST_SIZES, REST_CHANCES = (0.002, 0.008, 0.03, 0.1), (0.7, 0.2, 0.07, 0.03)
"""Standard deviations of the rest at (10, 0.95) that are possible, smaller nearer to the baseline,
and the prior chance of each."""
_ROUGH_STD = 0.003
"""What each point has for itself."""
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Points:
    """Measured points but for the dense baseline, which every curve passes."""

    candidates: Sequence[Candidate]
    losses: Array
    """`(K,)` fractions."""
    noise: Array
    """`(K,)` variance of each."""
    shared: float
    """Variance of the baseline's error, which all losses share."""


class CurveEnsemble:
    """The posterior.

    Args:
        curves: What is possible.
        points: What was measured.
        log_chances: `(E,)` logarithms of what else speaks for or against each curve.
    """

    def __init__(self, curves: LossCurves, points: Points, log_chances: Array) -> None:
        self._points = points
        left = points.losses - curves.losses(points.candidates)  # (E, K)
        noise = np.diag(points.noise + _ROUGH_STD**2) + points.shared
        inverses, logs = [], []
        for size, chance in zip(REST_SIZES, REST_CHANCES, strict=True):
            gram = _covariance(points.candidates, points.candidates, size) + noise
            inverse = np.linalg.inv(gram)
            square = np.einsum("ek,ek->e", left @ inverse, left)
            logs.append(np.log(chance) - 0.5 * (square + np.linalg.slogdet(gram)[1]) + log_chances)
            inverses.append(inverse)
        kept, self.weights = _resampled(np.concatenate(logs))
        """`(T,)`, with sum 1."""
        self._size_of, chosen = np.divmod(kept, len(curves))
        self.members = curves[chosen]
        """Curve of each member."""
        self._inverses = inverses
        self._alphas = np.empty((len(kept), len(points.losses)))
        for r, inverse in enumerate(inverses):
            own = self._size_of == r
            self._alphas[own] = left[chosen[own]] @ inverse

    def predict(self, candidates: Sequence[Candidate]) -> tuple[Array, Array]:
        """Means and standard deviations of each member, `(T, M)` both.

        They hold the baseline's error, but not that of measuring the candidates.
        """
        means = self.members.losses(candidates)
        stds = np.empty_like(means)
        for r, size in enumerate(REST_SIZES):
            own = self._size_of == r
            if own.any():
                cross = _covariance(candidates, self._points.candidates, size)
                cross = cross + self._points.shared  # (M, K)
                prior = (size * _reach(candidates)) ** 2 + self._points.shared + _ROUGH_STD**2
                told = np.einsum("mk,kl,ml->m", cross, self._inverses[r], cross, optimize=True)
                means[own] += self._alphas[own] @ cross.T
                stds[own] = np.sqrt(np.maximum(prior - told, _LEAST_VARIANCE))
        return means, stds


def _resampled(log_weights: Array) -> tuple[NDArray[np.int64], Array]:
    """Draw members at even steps of the summed weights (Carpenter et al. 1999), and count them."""
    sums = np.cumsum(np.exp(log_weights - log_weights.max()))
    steps = (np.arange(NUM_MEMBERS) + 0.5) / NUM_MEMBERS
    kept, counts = np.unique(np.searchsorted(sums, steps * sums[-1]), return_counts=True)
    return kept, counts / NUM_MEMBERS


def _covariance(left: Sequence[Candidate], right: Sequence[Candidate], size: float) -> Array:
    correlated = correlation(coordinates(left), coordinates(right))
    return np.asarray(size**2 * np.outer(_reach(left), _reach(right)) * correlated)


def _reach(candidates: Sequence[Candidate]) -> Array:
    """0 at the baseline and 1 at (10, 0.95), `(M,)`."""
    x, c = places(candidates)
    return np.asarray(0.5 * (x + c), dtype=np.float64)
