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
from autoprumux.surrogates.latency import LatencySurrogate
from autoprumux.surrogates.performance import BASELINE, PerformanceModel
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
        surrogate = BilinearSurrogate()
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
        noise = _binomial_std(baseline.accuracy, baseline.num_examples)
        surrogate = StructuredSurrogate(noise_std=noise)
        points = list(measured)
        surrogate.fit(points, [baseline.accuracy - measured[c].accuracy for c in points])
        return [
            None
            if loss is None
            else Prediction(baseline.accuracy - loss.mean, math.hypot(loss.std, noise))
            for loss in surrogate.predict(candidates)
        ]

    def log_speedups(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        return _fitted_speeds(LatencySurrogate(), measured).predict(candidates)


class PerformancePair:
    """What search and query use: all of these together, bounded by measured neighbours."""

    name = "performance model"

    def accuracies(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        model = PerformanceModel.from_measured(measured, {}, candidates)
        return [
            Prediction(p.accuracy, p.accuracy_std, p.is_extrapolated)
            for p in model.predict(candidates)
        ]

    def log_speedups(self, measured: Measured, candidates: Sequence[Candidate]) -> Predictions:
        """See `SurrogatePair`."""
        model = PerformanceModel.from_measured(measured, {}, candidates)
        return [
            Prediction(math.log(p.speedup), p.log_speedup_std, p.is_extrapolated)
            for p in model.predict(candidates)
        ]


def _fitted_speeds(surrogate: Surrogate, measured: Measured) -> Surrogate:
    points = [candidate for candidate in measured if not candidate.is_baseline]
    surrogate.fit(points, [math.log(measured[candidate].speedup) for candidate in points])
    return surrogate


def _binomial_std(accuracy: float, num_examples: int) -> float:
    share = min(max(accuracy, 0.0), 1.0)
    return math.sqrt(share * (1.0 - share) / max(num_examples, 1))
