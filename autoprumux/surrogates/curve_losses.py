"""Accuracy losses by an ensemble of curves, collapse included.

Losses above 20 points are no measured points but events: they speak for curves that collapse there
or lose so much, and how large they are says nothing about smaller ones.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.curve_ensemble import CurveEnsemble, Points
from autoprumux.surrogates.curves import LossCurves
from autoprumux.surrogates.forecasts import LossForecasts, normal_cdfs
from autoprumux.surrogates.loss_columns import LossColumns
from autoprumux.surrogates.structured import doubt

Array = NDArray[np.float64]

_LOST = 0.20
"""Losses above this count as events."""
_EVENT_STD = 0.02
"""Of the loss that an event tells."""
_UNLIKELY = 1e-3
"""Chance that a curve is right although what it says did not happen."""
_NEVER = 1e-12
"""Weight of members that say a candidate collapses in what it loses if it doesn't."""
_INTERVAL_SHARE = 0.85
"""A mixture has longer tails than a normal of its standard deviation; with this share of it, 90 %
intervals hold in about 90 % (tuning family of `benchmarks/search.py`)."""


class CurveLosses:
    """Predicts the losses of one task from its own measurements.

    Args:
        losses: Measured losses, that of the baseline left out.
        least: Losses that candidates stopped early have at least.
        variances: Of the measured accuracies, see `noise.measurement_variance`.
        shared: Variance of the baseline's accuracy, whose error all losses share; see
            `noise.sampling_variance`, as losses are against this very model.
        curves: What is possible; the published ones if None.
    """

    def __init__(
        self,
        losses: Mapping[Candidate, float],
        least: Mapping[Candidate, float],
        *,
        variances: Mapping[Candidate, float],
        shared: float,
        curves: LossCurves | None = None,
    ) -> None:
        columns = LossColumns(curves) if curves else LossColumns.published()
        trained = {c: loss for c, loss in losses.items() if loss <= _LOST}
        events = dict(least) | {c: _LOST for c, loss in losses.items() if loss > _LOST}
        values = np.array(list(trained.values()), dtype=np.float64)
        noise = np.array([variances[c] for c in trained], dtype=np.float64) + doubt(values)
        told = _log_chance_above(columns, events)
        told += math.log(_UNLIKELY) * columns.curves.num_collapses(list(trained))
        self._ensemble = CurveEnsemble(columns, Points(list(trained), values, noise, shared), told)

    def predict(self, candidates: Sequence[Candidate]) -> LossForecasts:
        """See `LossModel`."""
        means, stds = self._ensemble.predict(candidates)
        trains = ~self._ensemble.members.collapses(candidates)
        weights = self._ensemble.weights[:, None] * (trains + _NEVER)
        return LossForecasts(
            weights=weights / weights.sum(axis=0),
            means=means,
            stds=stds,
            chances_trained=np.minimum(self._ensemble.weights @ trains, 1.0),
            interval_share=_INTERVAL_SHARE,
        )


def _log_chance_above(columns: LossColumns, least: Mapping[Candidate, float]) -> Array:
    """Logarithm of each curve's chance that losses are at least so large, `(E,)`."""
    if not least:
        return np.zeros(len(columns.curves))
    bounds = np.array(list(least.values()), dtype=np.float64)
    margins = (columns.at(list(least)) - bounds[:, None]) / _EVENT_STD  # (K, E)
    chances = np.where(columns.curves.collapses(list(least)).T, 1.0, normal_cdfs(margins))
    return np.asarray(np.log(np.maximum(chances, _UNLIKELY)).sum(axis=0), dtype=np.float64)
