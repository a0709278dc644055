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
        accuracy: Measured accuracy of the baseline, whose error all losses share.
        num_examples: Validation examples behind every accuracy.
        curves: What is possible; the published ones if None.
    """

    def __init__(
        self,
        losses: Mapping[Candidate, float],
        least: Mapping[Candidate, float],
        *,
        accuracy: float,
        num_examples: int,
        curves: LossCurves | None = None,
    ) -> None:
        curves = curves or LossCurves.published()
        trained = {c: loss for c, loss in losses.items() if loss <= _LOST}
        events = dict(least) | {c: _LOST for c, loss in losses.items() if loss > _LOST}
        values = np.array(list(trained.values()), dtype=np.float64)
        shares = np.clip(accuracy - np.array([0.0, *values]), 0.0, 1.0)
        variances = shares * (1.0 - shares) / num_examples
        points = Points(list(trained), values, variances[1:] + doubt(values), float(variances[0]))
        told = _log_chance_above(curves, events)
        told += math.log(_UNLIKELY) * curves.collapses(list(trained)).sum(axis=1)
        self._ensemble = CurveEnsemble(curves, points, told)

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


def _log_chance_above(curves: LossCurves, least: Mapping[Candidate, float]) -> Array:
    """Logarithm of each curve's chance that losses are at least so large, `(E,)`."""
    bounds = np.array(list(least.values()), dtype=np.float64)
    margins = (curves.losses(list(least)) - bounds) / _EVENT_STD
    chances = np.where(curves.collapses(list(least)), 1.0, normal_cdfs(margins))
    return np.asarray(np.log(np.maximum(chances, _UNLIKELY)).sum(axis=1), dtype=np.float64)
