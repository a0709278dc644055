"""Accuracy loss as a multiplexing part plus a pruning part plus a small interaction.

Symbols: `x = log2 N / log2 10` and `c = log(1 - s) / log 0.05`, both 1 at (10, 0.95). Loss is `m1
x + m2 x^2 + p1 c + p2 c^3 + q x c` with every coefficient at least 0, so that it is 0 at the dense
baseline and never falls with N or s. `P = 5` features.

Priors are the published facts (reference-spec, sections 3.4 and Appendix B): BERT-base loses about
2, 5 and 8 points at N = 2, 5 and 10, and 4 to 5 points at s = 0.95, most of it after s = 0.8;
losses are "loosely additive". Their spread is wide, because small models lose several times as
much.

Every loss is measured against the same noisy baseline, whose error they share; the baseline's own
loss is 0 by definition.
"""

import operator
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points
from autoprumux.surrogates.bilinear import are_surrounded
from autoprumux.surrogates.monotone import MonotoneValues
from autoprumux.surrogates.residual import ResidualField, coordinates, correlation

Array = NDArray[np.float64]

PRIOR_MEAN = np.array([0.04, 0.04, 0.015, 0.035, 0.04])
PRIOR_STD = np.array([0.06, 0.06, 0.03, 0.06, 0.08])
_RESIDUAL_STD = 0.008
_RESIDUAL_SHARE = 0.2
"""The residual's spread grows with the losses seen: this share of their root mean square."""
_TRUSTED_LOSS = 0.10
_COLLAPSE_DOUBT = 0.4
"""Losses above 10 points say ever less about small ones, as collapse isn't additive: this share of
the excess counts as noise."""
_SCALE, _SCALE_WEIGHT = 0.6, 4.0
"""Factor of the standard deviations before anything is measured, and the number of measurements
that it counts as; chosen so that 90 % intervals hold in about 90 % (tuning family of
`benchmarks/search.py`)."""
LATTICE = [
    Candidate(width, step / 20)
    for width in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
    for step in range(20)
]
"""Candidates between which losses are kept; those of every preset are of it."""
JITTER = 1e-10
"""Keeps the matrices solvable without measurement noise."""
_MAX_SWEEPS, _SETTLED = 300, 1e-9


class StructuredSurrogate:
    """Predicts accuracy loss (a fraction) everywhere, passing through the measured points.

    The coefficients are fitted by ridge regression towards the prior; what they leave over is
    interpolated. The standard deviation is that of the matching Gaussian process, scaled by how
    surprising the measured losses were: it grows with the distance to the nearest measured points
    and holds the measurement noise of the baseline, but none of the candidate itself.

    Args:
        noise_std: Of the baseline's accuracy, and of those that `variances` leaves out.
        variances: Of the measured accuracies, see `noise.measurement_variance`.
    """

    def __init__(
        self, *, noise_std: float, variances: Mapping[Candidate, float] | None = None
    ) -> None:
        self._noise, self._variances = noise_std, variances or {}
        self._prior_covariance = np.diag(PRIOR_STD**2)
        self.fit([], [])

    @property
    def coefficients(self) -> Array:
        """`(P,)` `m1`, `m2`, `p1`, `p2` and `q`."""
        return self._coefficients

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`; values are accuracy losses. The baseline's, 0, is always known."""
        check_points(candidates, values)
        known = {Candidate(1, 0.0): 0.0, **dict(zip(candidates, values, strict=True))}
        points, losses = list(known), np.array(list(known.values()), dtype=np.float64)
        self._points, self._known = points, known
        self.__dict__.pop("_monotone", None)
        self._residual_std = residual_std(losses)
        doubts = doubt(losses)
        features, place = features_of(points), coordinates(points)
        residual = self._residual_std**2 * correlation(place, place)
        residual += shared_noise(points, points, self._noise) + np.diag(JITTER + doubts)
        residual += np.diag(own_noise(points, self._variances, self._noise))
        self._coefficients = _ridge(features, losses, residual)
        left = losses - features @ self._coefficients
        self._field = ResidualField(points, left, doubts / self._residual_std**2)
        gram = features @ self._prior_covariance @ features.T + residual
        self._inverse = np.asarray(np.linalg.inv(gram), dtype=np.float64)
        surprise = np.asarray(losses - features @ PRIOR_MEAN, dtype=np.float64)
        self._scale = scale_of(surprise, self._inverse)

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`; defined everywhere.

        Of unmeasured candidates none loses less than a smaller one, as far as they are of
        `LATTICE`; others are kept between those.
        """
        features = features_of(candidates)
        means = self._means(candidates)
        is_measured = np.array([c in self._known for c in candidates], dtype=bool)
        means = np.where(is_measured, means, self._monotone.at(candidates, means))
        means = np.where(is_measured, means, np.maximum(means, min(0.0, *self._known.values())))
        is_inside = are_surrounded(self._points, candidates)
        cross = features @ self._prior_covariance @ features_of(self._points).T
        cross += self._residual_std**2 * correlation(
            coordinates(candidates), coordinates(self._points)
        )
        cross += shared_noise(candidates, self._points, self._noise)
        prior = np.einsum("mp,pq,mq->m", features, self._prior_covariance, features)
        prior += self._residual_std**2
        prior += [0.0 if c.is_baseline else self._noise**2 for c in candidates]
        left = prior - np.einsum("mk,kl,ml->m", cross, self._inverse, cross)
        stds = self._scale * np.sqrt(np.maximum(left, 0.0))
        return [
            Prediction(float(mean), float(std), not inside)
            for mean, std, inside in zip(means, stds, is_inside, strict=True)
        ]

    def _means(self, candidates: Sequence[Candidate]) -> Array:
        trend = features_of(candidates) @ self._coefficients
        return np.asarray(trend + self._field.mean(candidates), dtype=np.float64)

    @cached_property
    def _monotone(self) -> MonotoneValues:
        """Found when first asked for: what is asked of the coefficients alone needs it not."""
        lattice = [c for c in LATTICE if c not in self._known]
        return MonotoneValues(lattice, self._means(lattice))


def residual_std(losses: Array) -> float:
    """Standard deviation of what the coefficients leave over, given the losses seen."""
    typical = float(np.sqrt(np.mean(np.minimum(losses, _TRUSTED_LOSS) ** 2)))
    return float(np.hypot(_RESIDUAL_STD, _RESIDUAL_SHARE * typical))


def doubt(losses: Array) -> Array:
    """Variance by which large losses say less about small ones, `(K,)`."""
    excess = np.maximum(losses - _TRUSTED_LOSS, 0.0)
    return np.asarray(_COLLAPSE_DOUBT**2 * excess**2, dtype=np.float64)


def shared_noise(left: Sequence[Candidate], right: Sequence[Candidate], noise_std: float) -> Array:
    """Covariance `(M, K)` by the baseline's own noise, which is in every loss but its own."""
    is_left = np.array([not candidate.is_baseline for candidate in left], dtype=np.float64)
    is_right = np.array([not candidate.is_baseline for candidate in right], dtype=np.float64)
    return np.asarray(noise_std**2 * np.outer(is_left, is_right), dtype=np.float64)


def own_noise(
    candidates: Sequence[Candidate], variances: Mapping[Candidate, float], noise_std: float
) -> Array:
    """Variance `(K,)` by the candidates' own noise; the baseline's loss has none."""
    own = [0.0 if c.is_baseline else variances.get(c, noise_std**2) for c in candidates]
    return np.array(own, dtype=np.float64)


def scale_of(surprise: Array, inverse: Array, before: float = _SCALE) -> float:
    """Factor of the standard deviations: how surprising the losses were, given the prior.

    `before` is what it is as long as nothing is measured.
    """
    num = len(surprise) - 1  # the baseline's loss is 0 by definition
    square = float(surprise @ inverse @ surprise)
    return float(np.sqrt((_SCALE_WEIGHT * before**2 + square) / (_SCALE_WEIGHT + num)))


def features_of(candidates: Sequence[Candidate]) -> Array:
    """`(K, P)`, each feature 1 at (10, 0.95)."""
    x, c = (coordinates(candidates) / np.log2([10.0, 20.0])).T
    return np.stack([x, x**2, c, c**3, x * c], axis=1)


def _ridge(features: Array, losses: Array, residual: Array) -> Array:
    """Coefficients `(P,)`, at least 0, by coordinate descent on the normal equations."""
    weight = np.linalg.inv(residual)
    precision = 1.0 / PRIOR_STD**2
    normal = features.T @ weight @ features + np.diag(precision)
    target = features.T @ weight @ losses + precision * PRIOR_MEAN
    return np.array(_descend(normal.tolist(), target.tolist()))


def _descend(normal: list[list[float]], target: list[float]) -> list[float]:
    """Solve for coefficients of at least 0; of so few, plain numbers take a tenth of the time."""
    coefficients: list[float] = PRIOR_MEAN.tolist()
    for _ in range(_MAX_SWEEPS):
        change = 0.0
        for p, row in enumerate(normal):
            others = sum(map(operator.mul, row, coefficients)) - row[p] * coefficients[p]
            moved = max(0.0, (target[p] - others) / row[p])
            change = max(change, abs(moved - coefficients[p]))
            coefficients[p] = moved
        if change < _SETTLED:
            break
    return coefficients
