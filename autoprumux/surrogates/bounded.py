"""Predicted losses, cut off at those of measured neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoprumux.surrogates.forecasts import LossForecasts

Array = NDArray[np.float64]

TIE = 1e-9
"""Losses equal up to rounding of the subtraction count as equal."""


@dataclass(frozen=True, kw_only=True)
class BoundedLosses:
    """Losses of `M` candidates; all `(M,)`."""

    forecasts: LossForecasts
    expected: Array
    noise: Array
    """Standard deviation of measuring each."""
    least: Array
    most: Array
    chances_trained: Array
    _known: dict[float, Array] = field(default_factory=dict, init=False)

    def chances_within(self, budgets: Sequence[float]) -> Array:
        """Chances `(B, M)` of losing at most each of the budgets."""
        new = [b for b in dict.fromkeys(budgets) if b not in self._known]
        self._known.update({budget: self._chances_within(budget + TIE) for budget in new})
        rows = np.array([self._known[budget] for budget in budgets], dtype=np.float64)
        return rows.reshape(len(budgets), len(self.least))  # of no budgets, too

    def _chances_within(self, border: float) -> Array:
        """Chances of one budget; only where the bounds leave it open they are computed."""
        share = np.where(self.least <= border, 1.0, 0.0)
        (open_,) = np.nonzero((self.least <= border) & (border < self.most))
        if len(open_):
            share[open_] = self._shares(open_, border)
        return np.asarray(self.chances_trained * share, dtype=np.float64)

    def _shares(self, columns: NDArray[np.int64], border: float) -> Array:
        """Of what is between the bounds: what is below the border."""
        forecasts, noise = self.forecasts.of(columns), self.noise[columns]
        low = self._filled(self._low, self.least, columns)
        high = self._filled(self._high, self.most, columns)
        within = forecasts.chances_at_most(np.full(len(columns), border), noise)
        left = high - low
        is_open = left > TIE
        share = (np.clip(within, low, high) - low) / np.where(is_open, left, 1.0)
        return np.where(is_open, share, self.expected[columns] <= border)

    @cached_property
    def _low(self) -> Array:
        """Chances that are below the bounds, NaN where nobody has asked yet."""
        return np.where(np.isneginf(self.least), 0.0, np.nan)

    @cached_property
    def _high(self) -> Array:
        """Chances that are up to the bounds, NaN where nobody has asked yet."""
        return np.where(np.isposinf(self.most), 1.0, np.nan)

    def _filled(self, chances: Array, bound: Array, columns: NDArray[np.int64]) -> Array:
        new = columns[np.isnan(chances[columns])]
        if len(new):
            forecasts = self.forecasts.of(new)
            chances[new] = forecasts.chances_at_most(bound[new], self.noise[new])
        return chances[columns]
