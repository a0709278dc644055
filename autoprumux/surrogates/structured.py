"""Accuracy loss as a multiplexing part plus a pruning part plus a small interaction.

Symbols: `x = log2 N / log2 10` and `c = log(1 - s) / log 0.05`, both 1 at (10, 0.95). Loss is `m1
x + m2 x^2 + p1 c + p2 c^3 + q x c` with every coefficient at least 0, so that it is 0 at the dense
baseline and never falls with N or s. `P = 5` features.

Priors are the published facts (reference-spec, sections 3.4 and Appendix B): BERT-base loses about
2, 5 and 8 points at N = 2, 5 and 10, and 4 to 5 points at s = 0.95, most of it after s = 0.8;
losses are "loosely additive". Their spread is wide, because small models lose several times as
much.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points
from autoprumux.surrogates.residual import ResidualField, coordinates, correlation

Array = NDArray[np.float64]

_PRIOR_MEAN = np.array([0.04, 0.04, 0.015, 0.035, 0.04])
_PRIOR_STD = np.array([0.06, 0.06, 0.03, 0.06, 0.08])
_RESIDUAL_STD = 0.008
_RESIDUAL_SHARE = 0.2
"""The residual's spread grows with the losses seen: this share of their root mean square."""
_TRUSTED_LOSS = 0.10
_COLLAPSE_DOUBT = 0.4
"""Losses above 10 points say ever less about small ones, as collapse isn't additive: this share of
the excess counts as noise."""
_JITTER = 1e-10
"""Keeps the matrices solvable without measurement noise."""
_MAX_SWEEPS, _SETTLED = 300, 1e-9


class StructuredSurrogate:
    """Predicts accuracy loss (a fraction) everywhere, passing through the measured points.

    The coefficients are fitted by ridge regression towards the prior; what they leave over is
    interpolated. The standard deviation is that of the matching Gaussian process: it grows with
    the distance to the nearest measured points and holds no measurement noise of the candidate
    itself.
    """

    def __init__(self, *, noise_std: float) -> None:
        self._noise = noise_std
        self._prior_covariance = np.diag(_PRIOR_STD**2)
        self.fit([], [])

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`; values are accuracy losses. The baseline's, 0, is always known."""
        check_points(candidates, values)
        known = {Candidate(1, 0.0): 0.0, **dict(zip(candidates, values, strict=True))}
        points, losses = list(known), np.array(list(known.values()), dtype=np.float64)
        typical = float(np.sqrt(np.mean(np.minimum(losses, _TRUSTED_LOSS) ** 2)))
        self._points = points
        self._residual_std = float(np.hypot(_RESIDUAL_STD, _RESIDUAL_SHARE * typical))
        doubt = _COLLAPSE_DOUBT**2 * np.maximum(losses - _TRUSTED_LOSS, 0.0) ** 2
        noise = np.diag(self._noise**2 + _JITTER + doubt)
        features, place = _features(points), coordinates(points)
        residual = self._residual_std**2 * correlation(place, place) + noise
        self._coefficients = _ridge(features, losses, residual)
        left = losses - features @ self._coefficients
        self._field = ResidualField(points, left, doubt / self._residual_std**2)
        gram = features @ self._prior_covariance @ features.T + residual
        self._inverse = np.linalg.inv(gram)

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`; defined everywhere."""
        features = _features(candidates)
        means = features @ self._coefficients + self._field.mean(candidates)
        cross = features @ self._prior_covariance @ _features(self._points).T
        cross += self._residual_std**2 * correlation(
            coordinates(candidates), coordinates(self._points)
        )
        prior = np.einsum("mp,pq,mq->m", features, self._prior_covariance, features)
        prior += self._residual_std**2
        left = prior - np.einsum("mk,kl,ml->m", cross, self._inverse, cross)
        stds = np.sqrt(np.maximum(left, 0.0))
        return [Prediction(float(mean), float(std)) for mean, std in zip(means, stds, strict=True)]


def _features(candidates: Sequence[Candidate]) -> Array:
    """`(K, P)`, each feature 1 at (10, 0.95)."""
    x, c = (coordinates(candidates) / np.log2([10.0, 20.0])).T
    return np.stack([x, x**2, c, c**3, x * c], axis=1)


def _ridge(features: Array, losses: Array, residual: Array) -> Array:
    """Coefficients `(P,)`, at least 0, by coordinate descent on the normal equations."""
    weight = np.linalg.inv(residual)
    precision = 1.0 / _PRIOR_STD**2
    normal = features.T @ weight @ features + np.diag(precision)
    target = features.T @ weight @ losses + precision * _PRIOR_MEAN
    coefficients = _PRIOR_MEAN.copy()
    for _ in range(_MAX_SWEEPS):
        before = coefficients.copy()
        for p in range(len(coefficients)):
            others = normal[p] @ coefficients - normal[p, p] * coefficients[p]
            coefficients[p] = max(0.0, (target[p] - others) / normal[p, p])
        if np.abs(coefficients - before).max() < _SETTLED:
            break
    return coefficients
