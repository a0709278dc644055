"""Throughput estimator: a law of latency with four parameters.

Symbols (reference-spec, section 6.2): `1 / speedup(N, s) = a(s) / N + b` with `a(s) = c0 + c1 (1 -
s)^d`; `c0` is the part of the encoder's time that pruning doesn't remove, `c1` the part it does,
`b` the time per instance outside the encoder. All are shares of the dense baseline's time: `c0 +
c1 + b = 1`, so that the law gives exactly 1 at (1, 0). `d` is 1 where time goes with the remaining
weights; on a small model that keeps its shape while weights go, it is about 0.7. They are fitted
as `z = (log c0/c1, log b/c1, log d)`, which keeps them positive.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points
from autoprumux.surrogates.bilinear import are_surrounded

Array = NDArray[np.float64]

_PRIOR_SHARES = (0.10, 0.90, 0.01)
"""c0, c1, b of the published points, before normalisation; d is 1."""
_PRIOR_STD = np.array([1.0, 1.6, 0.3])
"""Of `z`: a factor of 2.7 for `c0`, of 5 for `b`, which is tenfold on small models, and of 1.35
for `d`."""
_LAW_STD, _LAW_WEIGHT = 0.12, 4.0
"""Typical misfit of the law in log speed-up while it is fitted, and the measurements that it
counts as: so many that a surprising point moves the law instead of counting as a misfit."""
_INTERVAL_STD, _INTERVAL_WEIGHT = 0.10, 1.5
"""The same for intervals: few, as tables that follow the law miss it by a fifth of that
(tuning family of `benchmarks/search.py`) and recorded ones by twice as much."""
_MAX_STEPS, _SETTLED = 50, 1e-9
_MAX_STEP = 1.0
_BASELINE = Candidate(1, 0.0)


class LatencySurrogate:
    """Log speed-up by the latency law, usable before the first measurement.

    Fitted by least squares on the log speed-up with a ridge towards the published values; the
    standard deviation holds the uncertainty of the parameters and the misfit of the law.
    Sparsities are requested ones.
    """

    def __init__(self) -> None:
        c0, c1, b = _PRIOR_SHARES
        self._prior: Array = np.log(np.array([c0 / c1, b / c1, 1.0]))
        self._points = [_BASELINE]
        self._z: Array = self._prior
        self._variance = _INTERVAL_STD**2
        self._covariance: Array = self.prior_covariance

    @property
    def shares(self) -> tuple[float, float, float]:
        """Fitted `(c0, c1, b)`, with sum 1."""
        return _shares(self._z)

    @property
    def prior_covariance(self) -> Array:
        """Of `z` before anything is measured, `(3, 3)`."""
        return np.diag(_PRIOR_STD**2)

    def linear(self, candidates: Sequence[Candidate]) -> tuple[Array, Array]:
        """Yield the law as a linear function of `z` around the fit.

        Returns: What it predicts for `M` candidates with `z` as before anything was measured,
            `(M,)`, and its derivative by `z`, `(M, 3)`.
        """
        means, jacobian = _law(_places(candidates), self._z)
        return means + jacobian @ (self._prior - self._z), jacobian

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`; values are natural logarithms of speed-ups."""
        check_points(candidates, values)
        self._points = [_BASELINE, *candidates]
        places, target = _places(candidates), np.asarray(values, dtype=np.float64)
        precision = np.diag(1.0 / _PRIOR_STD**2)
        z, variance = self._prior.copy(), _LAW_STD**2
        mean, jacobian = _law(places, z)
        for _ in range(_MAX_STEPS):
            hessian = precision + jacobian.T @ jacobian / variance
            gradient = jacobian.T @ (target - mean) / variance - precision @ (z - self._prior)
            step = np.linalg.solve(hessian, gradient)
            step = np.minimum(np.maximum(step, -_MAX_STEP), _MAX_STEP)
            z = z + step
            mean, jacobian = _law(places, z)
            variance = _variance(target - mean, _LAW_STD, _LAW_WEIGHT)
            if np.abs(step).max() < _SETTLED:
                break
        variance = _variance(target - mean, _INTERVAL_STD, _INTERVAL_WEIGHT)
        self._z, self._variance = z, variance
        covariance = np.linalg.inv(precision + jacobian.T @ jacobian / variance)
        self._covariance = np.asarray(covariance, dtype=np.float64)

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`; defined everywhere, exactly 0 at the dense baseline."""
        is_inside = are_surrounded(self._points, candidates)
        means, jacobian = _law(_places(candidates), self._z)
        variances = np.einsum("kp,pq,kq->k", jacobian, self._covariance, jacobian)
        return [
            Prediction(0.0, 0.0)
            if candidate.is_baseline
            else Prediction(float(mean), float(np.sqrt(variance + self._variance)), not inside)
            for candidate, mean, variance, inside in zip(
                candidates, means, variances, is_inside, strict=True
            )
        ]


def _places(candidates: Sequence[Candidate]) -> Array:
    """`(2, K)`: `1 / N` and `log(1 - s)`."""
    pairs = [(c.num_instances, 1.0 - c.sparsity) for c in candidates]
    widths, dense = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return np.stack([1.0 / widths, np.log(dense)])


def _shares(z: Array) -> tuple[float, float, float]:
    """`c0`, `c1` and `b`."""
    c0, b = math.exp(z[0]), math.exp(z[1])
    total = c0 + 1.0 + b
    return c0 / total, 1.0 / total, b / total


def _law(places: Array, z: Array) -> tuple[Array, Array]:
    """Log speed-up `(K,)` and its derivative by `z`, `(K, 3)`."""
    groups, log_dense = places
    c0, c1, b = _shares(z)
    power = math.exp(z[2])
    by_power = power * log_dense
    removable = c1 * groups * np.exp(by_power)
    fixed = c0 * groups
    latency = fixed + removable + b
    jacobian = np.empty((len(latency), 3))
    jacobian[:, 0] = c0 - fixed / latency
    jacobian[:, 1] = b - b / latency
    jacobian[:, 2] = -removable * by_power / latency
    return -np.log(latency), jacobian


def _variance(residual: Array, std: float, weight: float) -> float:
    """Mean square of the residuals and of `weight` others of size `std`."""
    return float((weight * std**2 + residual @ residual) / (weight + len(residual)))
