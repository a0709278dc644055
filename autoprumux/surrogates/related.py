"""What other tasks' studies of the same model tell of a task, before and while it is measured.

Symbols: the loss of task t at candidate c is `f_t(c) = g(c) + d_t(c)`, what all tasks share and
how this one differs. Both are Gaussian: a sum of the features of `structured` and a residual.
A study of the same task with another seed has the same `f_t`; what both measured of it differs.
Without other tasks `f_t` has the prior of the published points; losses of other tasks leave less
to know of `g`, and how much those tasks differ tells how large `d_t` may be. As `d_t` is never 0,
one measurement of the task itself always tells more than one of another.

What they tell of speed-ups is in `related_speedups`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points
from autoprumux.surrogates.related_speedups import OtherSpeedups
from autoprumux.surrogates.residual import coordinates, correlation
from autoprumux.surrogates.spreading import spread_out
from autoprumux.surrogates.structured import (
    JITTER,
    PRIOR_MEAN,
    PRIOR_STD,
    StructuredSurrogate,
    doubt,
    features_of,
    own_noise,
    residual_std,
    scale_of,
    shared_noise,
)

Array = NDArray[np.float64]

MAX_STUDIES = 6
"""Studies that are learnt from; more tell little else, and take longer."""
_OWN_SHARE = 0.35
"""Typical difference between the coefficients of two tasks of a model, as a share of them; counts
as much as `_OWN_WEIGHT` other tasks."""
_OWN_WEIGHT = 3.0
_OWN_RESIDUAL_SHARE = 0.5
"""Of the spread of a task's residual: what is its own."""
_SCALE = 0.8
"""Of the standard deviations before the task itself has a loss: between 0.6, with which 90 %
intervals of the first trials held in 82 to 88 % (tuning family of `benchmarks/search.py`), and 1,
with which they held in 94 to 95 %."""


@dataclass(frozen=True, kw_only=True)
class OtherStudy:
    """What another task's study measured."""

    name: str
    losses: Mapping[Candidate, float]
    """Of all measured candidates, the baseline's own left out."""
    noise_std: float
    """Of the baseline's accuracy, and of those that `variances` leaves out."""
    log_speedups: Mapping[Candidate, float]
    """Empty if they were measured on another device."""
    variances: Mapping[Candidate, float] = field(default_factory=dict)
    """Of the measured accuracies, see `noise.measurement_variance`."""
    is_same_task: bool = False
    """True if it trained the same task on the same examples with another seed."""


class Others:
    """Prior of a task, given studies of others.

    Args:
        studies: At least one; of many the first `MAX_STUDIES` count.
    """

    def __init__(self, studies: Sequence[OtherStudy]) -> None:
        self.names = tuple(study.name for study in studies[:MAX_STUDIES])
        studies = studies[:MAX_STUDIES]
        self._learn_losses(studies)
        self.speedups = OtherSpeedups([study.log_speedups for study in studies])

    def mean(self, candidates: Sequence[Candidate]) -> Array:
        """Loss expected of `M` candidates, `(M,)`."""
        told = self._with_points(candidates) @ self._weights
        return np.asarray(features_of(candidates) @ PRIOR_MEAN + told, dtype=np.float64)

    def covariance(self, left: Sequence[Candidate], right: Sequence[Candidate]) -> Array:
        """Covariance `(M, K)` of true losses against a noiseless baseline."""
        before = self._shared(left, right) + self._own(left, right)
        told = self._with_points(left) @ self._inverse @ self._with_points(right).T
        return np.asarray(before - told, dtype=np.float64)

    def _learn_losses(self, studies: Sequence[OtherStudy]) -> None:
        self._points: list[Candidate] = []
        losses: list[float] = []
        task: list[int] = []
        for index, study in enumerate(studies):
            points = spread_out([c for c in study.losses if not c.is_baseline])
            self._points += points
            losses += [study.losses[c] for c in points]
            task += [index] * len(points)
        values = np.array(losses, dtype=np.float64)
        self._is_own = np.array([studies[index].is_same_task for index in task], dtype=bool)
        self._residual_std = residual_std(values)
        self._coefficient_std = _coefficient_spread(studies)
        is_alike = np.equal.outer(task, task) | np.outer(self._is_own, self._is_own)
        gram = self._shared(self._points, self._points)
        gram += is_alike * self._own(self._points, self._points)
        gram += _noise(studies, self._points, task) + np.diag(doubt(values) + JITTER)
        self._inverse = np.linalg.inv(gram)
        self._weights = self._inverse @ (values - features_of(self._points) @ PRIOR_MEAN)

    def _with_points(self, candidates: Sequence[Candidate]) -> Array:
        """Covariance `(M, K)` of this task's losses with those of the studies."""
        own = self._own(candidates, self._points) if self._is_own.any() else 0.0
        return self._shared(candidates, self._points) + self._is_own * own

    def _shared(self, left: Sequence[Candidate], right: Sequence[Candidate]) -> Array:
        """Covariance of `g`."""
        return _covariance(left, right, PRIOR_STD, self._residual_std)

    def _own(self, left: Sequence[Candidate], right: Sequence[Candidate]) -> Array:
        """Covariance of `d_t` within a task."""
        spread = _OWN_RESIDUAL_SHARE * self._residual_std
        return _covariance(left, right, self._coefficient_std, spread)


class RelatedSurrogate:
    """Predicts accuracy loss as `StructuredSurrogate` does, with other tasks as the prior.

    Args:
        others: The prior.
        noise_std: Of the baseline's accuracy, and of those that `variances` leaves out.
        variances: Of the measured accuracies, see `noise.measurement_variance`.
    """

    def __init__(
        self,
        others: Others,
        *,
        noise_std: float,
        variances: Mapping[Candidate, float] | None = None,
    ) -> None:
        self._others, self._noise = others, noise_std
        self._variances = variances or {}
        self.fit([], [])

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`; values are accuracy losses. The baseline's, 0, is always known."""
        check_points(candidates, values)
        known = {Candidate(1, 0.0): 0.0, **dict(zip(candidates, values, strict=True))}
        self._points = list(known)
        losses = np.array(list(known.values()), dtype=np.float64)
        gram = self._others.covariance(self._points, self._points)
        gram += shared_noise(self._points, self._points, self._noise)
        own = own_noise(self._points, self._variances, self._noise)
        gram += np.diag(own + doubt(losses) + JITTER)
        surprise = losses - self._others.mean(self._points)
        self._inverse = np.asarray(np.linalg.inv(gram), dtype=np.float64)
        self._weights = self._inverse @ surprise
        self._scale = scale_of(surprise, self._inverse, _SCALE)

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`; defined everywhere, at least 0."""
        cross = self._others.covariance(candidates, self._points)
        cross += shared_noise(candidates, self._points, self._noise)
        means = self._others.mean(candidates) + cross @ self._weights
        own = self._others.covariance(candidates, candidates)
        prior = np.diag(own + shared_noise(candidates, candidates, self._noise))
        left = prior - np.einsum("mk,kl,ml->m", cross, self._inverse, cross)
        stds = self._scale * np.sqrt(np.maximum(left, 0.0))
        return [
            Prediction(max(float(mean), 0.0), float(std))
            for mean, std in zip(means, stds, strict=True)
        ]


def _covariance(
    left: Sequence[Candidate], right: Sequence[Candidate], coefficient_std: Array, rest: float
) -> Array:
    told = features_of(left) @ np.diag(coefficient_std**2) @ features_of(right).T
    told += rest**2 * correlation(coordinates(left), coordinates(right))
    return np.asarray(told, dtype=np.float64)


def _noise(
    studies: Sequence[OtherStudy], points: Sequence[Candidate], task: Sequence[int]
) -> Array:
    """Covariance `(K, K)` of measured losses: their own noise, and their baseline's."""
    shared = np.array([studies[index].noise_std for index in task], dtype=np.float64)
    own = [
        studies[index].variances.get(candidate, studies[index].noise_std ** 2)
        for candidate, index in zip(points, task, strict=True)
    ]
    return np.asarray(np.equal.outer(task, task) * np.outer(shared, shared) + np.diag(own))


def _coefficient_spread(studies: Sequence[OtherStudy]) -> Array:
    """Standard deviation of a task's coefficients around those that all share, `(P,)`."""
    found = []
    own = [study for study in studies if study.is_same_task]
    studies = [study for study in studies if not study.is_same_task] + own[:1]
    for study in studies:
        trend = StructuredSurrogate(noise_std=study.noise_std, variances=study.variances)
        points = spread_out(list(study.losses))
        trend.fit(points, [study.losses[c] for c in points])
        found.append(trend.coefficients)
    coefficients = np.array(found)
    typical = np.maximum(coefficients.mean(axis=0), 0.2 * PRIOR_STD)
    squares = ((coefficients - coefficients.mean(axis=0)) ** 2).sum(axis=0)
    weighted = _OWN_WEIGHT * (_OWN_SHARE * typical) ** 2 + squares
    return np.asarray(np.sqrt(weighted / (_OWN_WEIGHT + len(studies) - 1)), dtype=np.float64)
