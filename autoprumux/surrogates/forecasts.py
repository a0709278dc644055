"""What accuracy losses are expected, as distributions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate

Array = NDArray[np.float64]

_LEAST_STD = 1e-9


@dataclass(frozen=True, kw_only=True)
class LossForecasts:
    """Losses of `M` candidates, fractions: each a mixture of `T` normals, if it trains at all."""

    weights: Array
    """`(T, M)`, every column with sum 1."""
    means: Array
    """`(T, M)`."""
    stds: Array
    """`(T, M)`, without the noise of measuring the candidate."""
    chances_trained: Array
    """`(M,)` chance that training yields a model; the mixture is that of the model."""
    interval_share: float = 1.0
    """Of the standard deviation: what a normal's would be whose intervals hold as often."""

    @cached_property
    def mean(self) -> Array:
        """Expected losses, `(M,)`."""
        return np.asarray((self.weights * self.means).sum(axis=0), dtype=np.float64)

    @property
    def std(self) -> Array:
        """Standard deviations, `(M,)`, for intervals as if the losses were normal."""
        squares = self.weights * (self.stds**2 + (self.means - self.mean) ** 2)
        return np.asarray(self.interval_share * np.sqrt(squares.sum(axis=0)), dtype=np.float64)

    def moved_to(self, mean: Array) -> "LossForecasts":
        """Yield the same distributions around other expected losses, `(M,)`."""
        shift = mean - self.mean
        return replace(self, means=self.means + shift) if shift.any() else self

    def of(self, columns: NDArray[np.int64]) -> "LossForecasts":
        """Yield the forecasts of some of the candidates."""
        return replace(
            self,
            weights=self.weights[:, columns],
            means=self.means[:, columns],
            stds=self.stds[:, columns],
            chances_trained=self.chances_trained[columns],
        )

    def chances_at_most(self, losses: Array, noise_stds: Array) -> Array:
        """Chance of each that its measured loss is at most this, `(M,)`.

        Args:
            losses: `(M,)` fractions; may be infinite.
            noise_stds: `(M,)` standard deviations of the candidates' own measurements.
        """
        stds = np.maximum(np.hypot(self.stds, noise_stds), _LEAST_STD)
        chances = (self.weights * normal_cdfs((losses - self.means) / stds)).sum(axis=0)
        return np.asarray(np.minimum(chances, 1.0), dtype=np.float64)


class LossModel(Protocol):
    """Fitted to one study."""

    def predict(self, candidates: Sequence[Candidate]) -> LossForecasts:
        """Yield forecasts of `M` candidates, in their order."""


def normal_cdf(margin: float, std: float) -> float:
    """Chance that a normal variable with mean 0 is at most `margin`; a step if `std` is 0."""
    if std <= 0.0:
        return 1.0 if margin >= 0.0 else 0.0
    return 0.5 * math.erfc(-margin / (std * math.sqrt(2.0)))


def normal_cdfs(z: Array) -> Array:
    """Normal distribution function, to 1e-7 (Abramowitz and Stegun 1964, 26.2.17).

    scipy's takes longer to import than a query to answer.
    """
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    tail = np.full_like(t, 1.330274429)
    for coefficient in (-1.821255978, 1.781477937, -0.356563782, 0.319381530):
        tail = tail * t + coefficient
    tail = tail * t * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return np.asarray(np.where(z > 0, 1.0 - tail, tail), dtype=np.float64)
