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
from autoprumux.surrogates.curves import places
from autoprumux.surrogates.loss_columns import LossColumns
from autoprumux.surrogates.residual import coordinates, correlation

Array = NDArray[np.float64]

NUM_MEMBERS = 400
"""Members drawn by their weight; those drawn several times count so often."""
REST_SIZES, REST_CHANCES = (0.002, 0.008, 0.03, 0.1), (0.7, 0.2, 0.07, 0.03)
"""Standard deviations of the rest at (10, 0.95) that are possible, smaller nearer to the baseline,
and the prior chance of each."""
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Points:
    """Measured points but for the dense baseline, which every curve passes."""

    candidates: Sequence[Candidate]
    losses: Array
    """`(K,)` fractions."""
    noise: Array
    """`(K,)` variance of each, more than 0."""
    shared: float
    """Variance of the baseline's error, which all losses share."""


class CurveEnsemble:
    """The posterior.

    The matrices of the `R` sizes are `size^2 C + D`, so that one basis in which both `C` and `D`
    are diagonal serves all of them.

    Args:
        columns: What is possible.
        points: What was measured.
        log_chances: `(E,)` logarithms of what else speaks for or against each curve.
    """

    def __init__(self, columns: LossColumns, points: Points, log_chances: Array) -> None:
        self._points = points
        left = columns.at(points.candidates)  # (K, E)
        np.subtract(points.losses[:, None], left, out=left)
        self._basis, values, log_noise = _common_basis(points)
        scaled = self._basis.T @ left  # (K, E)
        self._variances = np.square(REST_SIZES)[:, None] * values + 1.0  # (R, K)
        squares = (1.0 / self._variances) @ np.square(scaled)  # (R, E)
        sizes = log_noise + np.log(self._variances).sum(axis=1)  # (R,)
        logs = np.log(REST_CHANCES)[:, None] - 0.5 * (squares + sizes[:, None]) + log_chances
        kept, self.weights = _resampled(logs.ravel())
        """`(T,)`, with sum 1."""
        self._size_of, chosen = np.divmod(kept, len(columns.curves))
        self.members = columns.curves[chosen]
        """Curve of each member."""
        self._scaled = scaled[:, chosen].T / self._variances[self._size_of]  # (T, K)

    def predict(self, candidates: Sequence[Candidate]) -> tuple[Array, Array]:
        """Means and standard deviations of each member, `(T, M)` both.

        They hold the baseline's error, but not that of measuring the candidates.
        """
        means = self.members.losses(candidates)
        stds = np.empty_like(means)
        rest = _covariance(candidates, self._points.candidates) @ self._basis  # (M, K)
        shared = self._points.shared * self._basis.sum(axis=0)  # (K,)
        reach = np.square(_reach(candidates))
        for r, size in enumerate(REST_SIZES):
            own = self._size_of == r
            if own.any():
                cross = size**2 * rest + shared  # (M, K)
                told = np.square(cross) @ (1.0 / self._variances[r])
                prior = size**2 * reach + self._points.shared
                means[own] += self._scaled[own] @ cross.T
                stds[own] = np.sqrt(np.maximum(prior - told, _LEAST_VARIANCE))
        return means, stds


def _common_basis(points: Points) -> tuple[Array, Array, float]:
    """Columns `(K, K)` in which the noise is 1 and the rest of size 1 diagonal, `(K,)`.

    The third is the logarithm of the determinant of the noise.
    """
    noise = np.diag(points.noise) + points.shared
    inverse_root = np.linalg.inv(np.linalg.cholesky(noise))
    rest = inverse_root @ _covariance(points.candidates, points.candidates) @ inverse_root.T
    values, vectors = np.linalg.eigh(rest)
    log_noise = -2.0 * float(np.log(np.diagonal(inverse_root)).sum())
    return inverse_root.T @ vectors, np.maximum(values, 0.0), log_noise


def _resampled(log_weights: Array) -> tuple[NDArray[np.int64], Array]:
    """Draw members at even steps of the summed weights (Carpenter et al. 1999), and count them."""
    sums = np.cumsum(np.exp(log_weights - log_weights.max()))
    steps = (np.arange(NUM_MEMBERS) + 0.5) / NUM_MEMBERS
    kept, counts = np.unique(np.searchsorted(sums, steps * sums[-1]), return_counts=True)
    return kept, counts / NUM_MEMBERS


def _covariance(left: Sequence[Candidate], right: Sequence[Candidate]) -> Array:
    """Covariance `(M, K)` of a rest of size 1."""
    correlated = correlation(coordinates(left), coordinates(right))
    return np.asarray(np.outer(_reach(left), _reach(right)) * correlated)


def _reach(candidates: Sequence[Candidate]) -> Array:
    """0 at the baseline and 1 at (10, 0.95), `(M,)`."""
    x, c = places(candidates)
    return np.asarray(0.5 * (x + c), dtype=np.float64)
