"""Throughput estimator: a law of latency with three parameters.

Symbols (reference-spec, section 6.2): `1 / speedup(N, s) = a(s) / N + b` with `a(s) = c0 + c1 (1 -
s)`; `c0` is the part of the encoder's time that pruning doesn't remove, `c1` the part it does, `b`
the time per instance outside the encoder. All are shares of the dense baseline's time: `c0 + c1 +
b = 1`, so that the law gives exactly 1 at (1, 0). They are fitted as `z = (log c0/c1, log b/c1)`,
which keeps them positive.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points

Array = NDArray[np.float64]

_PRIOR_SHARES = (0.10, 0.90, 0.01)
"""c0, c1, b of the published points, before normalisation."""
_PRIOR_STD = np.array([1.0, 1.6])
"""Of `z`: a factor of 2.7 for `c0` and of 5 for `b`, which is tenfold on small models."""
_LAW_STD = 0.12
"""Typical misfit of the law in log speed-up, before any measurement; counts as four of them."""
_LAW_WEIGHT = 4.0
_MAX_STEPS = 50
_MAX_STEP = 1.0


class LatencySurrogate:
    """Log speed-up by the latency law, usable before the first measurement.

    Fitted by least squares on the log speed-up with a ridge towards the published values; the
    standard deviation holds the uncertainty of the parameters and the misfit of the law.
    Sparsities are requested ones.
    """

    def __init__(self) -> None:
        c0, c1, b = _PRIOR_SHARES
        self._prior = np.log(np.array([c0 / c1, b / c1]))
        self.fit([], [])

    @property
    def shares(self) -> tuple[float, float, float]:
        """Fitted `(c0, c1, b)`, with sum 1."""
        c0, c1, b = (float(share) for share in _shares(self._z))
        return c0, c1, b

    @property
    def misfit(self) -> float:
        """Typical misfit of the law in log speed-up."""
        return float(np.sqrt(self._variance))

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`; values are natural logarithms of speed-ups."""
        check_points(candidates, values)
        design, target = _design(candidates), np.asarray(values, dtype=np.float64)
        precision = np.diag(1.0 / _PRIOR_STD**2)
        z, variance = self._prior.copy(), _LAW_STD**2
        for _ in range(_MAX_STEPS):
            mean, jacobian = _law(design, z)
            hessian = precision + jacobian.T @ jacobian / variance
            gradient = jacobian.T @ (target - mean) / variance - precision @ (z - self._prior)
            step = np.clip(np.linalg.solve(hessian, gradient), -_MAX_STEP, _MAX_STEP)
            z = z + step
            residual = target - _law(design, z)[0]
            variance = _variance(residual)
            if np.abs(step).max() < 1e-10:
                break
        jacobian = _law(design, z)[1]
        self._z, self._variance = z, variance
        self._covariance = np.linalg.inv(precision + jacobian.T @ jacobian / variance)

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`; defined everywhere, exactly 0 at the dense baseline."""
        means, jacobian = _law(_design(candidates), self._z)
        variances = np.einsum("kp,pq,kq->k", jacobian, self._covariance, jacobian)
        return [
            Prediction(0.0, 0.0)
            if candidate.is_baseline
            else Prediction(float(mean), float(np.sqrt(variance + self._variance)))
            for candidate, mean, variance in zip(candidates, means, variances, strict=True)
        ]


def _design(candidates: Sequence[Candidate]) -> Array:
    """Latency of each candidate per unit of (c0, c1, b), `(K, 3)`."""
    widths = np.array([c.num_instances for c in candidates], dtype=np.float64)
    dense = np.array([1.0 - c.sparsity for c in candidates], dtype=np.float64)
    return np.stack([1.0 / widths, dense / widths, np.ones_like(widths)], axis=1)


def _shares(z: Array) -> Array:
    weights = np.exp([z[0], 0.0, z[1]])
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _law(design: Array, z: Array) -> tuple[Array, Array]:
    """Log speed-up `(K,)` and its derivative by `z`, `(K, 2)`."""
    shares = _shares(z)
    latency = design @ shares  # (K, 3) -> (K,)
    by_share = shares[None, :] * (design - latency[:, None]) / latency[:, None]
    return -np.log(latency), -by_share[:, [0, 2]]


def _variance(residual: Array) -> float:
    num = _LAW_WEIGHT + len(residual)
    return float((_LAW_WEIGHT * _LAW_STD**2 + residual @ residual) / num)
