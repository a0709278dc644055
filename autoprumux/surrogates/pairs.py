"""Pairs of an accuracy and a throughput model that can be compared on the same measurements.

Every pair learns from the same trials: a training grid of pruned multiplexed candidates, the N = 1
row, the s = 0 column and the dense baseline. Accuracies are fractions, speeds are natural
logarithms of speed-ups.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from autoprumux.records import Candidate, Measurement
from autoprumux.surrogates.base import Prediction, Surrogate
from autoprumux.surrogates.bilinear import BilinearSurrogate
from autoprumux.surrogates.calibrated import CalibratedSpeeds
from autoprumux.surrogates.latency import LatencySurrogate
from autoprumux.surrogates.noise import (
    expected_variances,
    measurement_variance,
    sampling_variance,
)
from autoprumux.surrogates.performance import BASELINE, PerformanceModel
from autoprumux.surrogates.related import Others
from autoprumux.surrogates.structured import StructuredSurrogate
from autoprumux.surrogates.table import TableSurrogate

Measured = Mapping[Candidate, Measurement]
Predictions = list[Prediction | None]


class SurrogatePair(Protocol):
    """Predicts both targets of candidates from measured ones; `None` where it isn't defined."""

    name: str

    def accuracies(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """Predict accuracies; the deviation is that of a measured accuracy."""

    def log_speedups(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """Predict logarithms of speed-ups."""


class PaperPair:
    """The paper's: bilinear accuracy over the pruned multiplexed grid, one task's speed table.

    Args:
        table: Speed-ups of the task that is measured for all.
    """

    name = "bilinear + table"

    def __init__(self, table: Mapping[Candidate, float]) -> None:
        self._table = TableSurrogate()
        points = list(table)
        self._table.fit(points, [math.log(table[candidate]) for candidate in points])

    def accuracies(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        inner = [c for c in measured if c.num_instances > 1 and c.sparsity > 0]
        noise = {c: math.sqrt(measurement_variance(measured[c])) for c in inner}
        surrogate = BilinearSurrogate(noise_stds=noise)
        surrogate.fit(inner, [measured[candidate].accuracy for candidate in inner])
        return surrogate.predict(candidates)

    def log_speedups(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`; the table is all it knows."""
        return self._table.predict(candidates)


class StructuredPair:
    """Additive accuracy losses and the latency law, each on its own."""

    name = "structured + latency"

    def accuracies(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        baseline = measured[BASELINE]
        variances = {c: measurement_variance(m) for c, m in measured.items()}
        shared = math.sqrt(sampling_variance(baseline))
        surrogate = StructuredSurrogate(noise_std=shared, variances=variances)
        points = list(measured)
        surrogate.fit(points, [baseline.accuracy - measured[c].accuracy for c in points])
        losses = [loss for loss in surrogate.predict(candidates) if loss is not None]
        accuracies = [baseline.accuracy - loss.mean for loss in losses]
        noise = expected_variances(accuracies, baseline.num_examples)
        return [
            Prediction(accuracy, math.hypot(loss.std, math.sqrt(own)), loss.is_extrapolated)
            for accuracy, loss, own in zip(accuracies, losses, noise.tolist(), strict=True)
        ]

    def log_speedups(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        return _fitted_speeds(LatencySurrogate(), measured).predict(candidates)


class PerformancePair:
    """What search and query use: all of these together, bounded by measured neighbours.

    Args:
        cells: Between which expected losses are kept; those that are asked for if there are none.
        failed: Cells that failed, see `telling_failures`.
        stopped: Most accuracy that cells stopped early could have reached.
        others: What studies of other tasks tell, if they are the prior.
        speeds: What a calibration of the device expects, if there is one.
    """

    def __init__(
        self,
        cells: Sequence[Candidate] = (),
        failed: Mapping[Candidate, float] | None = None,
        stopped: Mapping[Candidate, float] | None = None,
        others: Others | None = None,
        speeds: CalibratedSpeeds | None = None,
    ) -> None:
        self.name = "performance model" + (" + prior" if others else "")
        self._cells, self._others, self._speeds = cells, others, speeds
        self._failed, self._stopped = failed or {}, stopped or {}

    def accuracies(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        return [
            Prediction(p.accuracy, p.accuracy_std, p.is_extrapolated)
            for p in self._fitted(measured, candidates).predict(candidates)
        ]

    def log_speedups(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        return [
            Prediction(math.log(p.speedup), p.log_speedup_std, p.is_extrapolated)
            for p in self._fitted(measured, candidates).predict(candidates)
        ]

    def _fitted(self, measured: Measured, candidates: Sequence[Candidate]) -> PerformanceModel:
        return PerformanceModel.from_measured(
            measured,
            self._failed,
            self._cells or candidates,
            stopped=self._stopped,
            others=self._others,
            speeds=self._speeds,
        )


def _fitted_speeds(surrogate: Surrogate, measured: Measured) -> Surrogate:
    points = [candidate for candidate in measured if not candidate.is_baseline]
    surrogate.fit(points, [math.log(measured[candidate].speedup) for candidate in points])
    return surrogate
