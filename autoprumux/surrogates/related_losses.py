"""Accuracy losses by what other tasks tell, bilinear where measured points surround a cell."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.bilinear import BilinearSurrogate, Cells
from autoprumux.surrogates.forecasts import LossForecasts
from autoprumux.surrogates.related import Others, RelatedSurrogate

_WIDEST_RATIO, _WIDEST_GAP = 2.5, 0.1
"""Cells of the paper's training grid: N in {2, 5, 10}, s in steps of 0.1 from 0.6. Across wider
ones a straight line misses the knee of the pruning curve by several times the loss."""
_TIE = 1e-9


class RelatedLosses:
    """Predicts the losses of one task with other tasks as the prior.

    Where the trend is below a known least loss, that counts as measured.

    Args:
        losses: Measured losses, that of the baseline left out.
        least: Losses that candidates stopped early have at least.
        others: The prior.
        variances: Of the measured accuracies, see `noise.measurement_variance`.
        shared: Variance of the baseline's accuracy, whose error all losses share.
        interpolant: Fitted on accuracies.
        accuracy: Measured accuracy of the baseline.
    """

    def __init__(
        self,
        losses: Mapping[Candidate, float],
        least: Mapping[Candidate, float],
        *,
        others: Others,
        variances: Mapping[Candidate, float],
        shared: float,
        interpolant: BilinearSurrogate,
        accuracy: float,
    ) -> None:
        self._interpolant, self._accuracy = interpolant, accuracy
        self._trend = RelatedSurrogate(others, noise_std=math.sqrt(shared), variances=variances)
        self._trend.fit(list(losses), list(losses.values()))
        expected = self._trend.predict(list(least))
        surprising = {
            candidate: loss
            for (candidate, loss), trend_at in zip(least.items(), expected, strict=True)
            if trend_at is not None and trend_at.mean < loss
        }
        if surprising:
            known = {**losses, **surprising}
            self._trend.fit(list(known), list(known.values()))

    def predict(self, candidates: Sequence[Candidate]) -> LossForecasts:
        """See `LossModel`."""
        cells = self._interpolant.cells(candidates)
        trends = [p for p in self._trend.predict(candidates) if p is not None]  # all are defined
        means = np.array([p.mean for p in trends])
        means = np.where(_are_fine(cells), self._accuracy - cells.values, means)
        shape = (1, len(trends))
        return LossForecasts(
            weights=np.ones(shape),
            means=means.reshape(shape),
            stds=np.array([p.std for p in trends]).reshape(shape),
            chances_trained=np.ones(len(trends)),
        )


def _are_fine(cells: Cells) -> NDArray[np.bool_]:
    """`(M,)`: True where measured points surround a candidate, no wider apart than the paper's."""
    (low, high), (least, most) = cells.widths, cells.sparsities
    return np.asarray((high <= _WIDEST_RATIO * low) & (most - least <= _WIDEST_GAP + _TIE))
