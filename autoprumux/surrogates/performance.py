"""Accuracy and speed-up of every candidate together, from whatever is measured so far.

Accuracy is the paper's bilinear interpolant where measured points surround the candidate and the
additive trend of `structured` elsewhere; neither may beat a measured point that is smaller in N
and s. Speed-up is the latency law, bent to pass through the measured points.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprumux.errors import NoBaselineError
from autoprumux.records import HOPELESS, Candidate, Measurement, StudyRecord
from autoprumux.surrogates.bilinear import BilinearSurrogate, Cells
from autoprumux.surrogates.latency import LatencySurrogate
from autoprumux.surrogates.related import Others, RelatedSurrogate
from autoprumux.surrogates.residual import ResidualField
from autoprumux.surrogates.spreading import spread_out
from autoprumux.surrogates.structured import StructuredSurrogate

BASELINE = Candidate(1, 0.0)

_WIDEST_RATIO, _WIDEST_GAP = 2.5, 0.1
"""Cells of the paper's training grid: N in {2, 5, 10}, s in steps of 0.1 from 0.6. Across wider
ones a straight line misses the knee of the pruning curve by several times the loss."""
_BOUND_STDS = 2.0
"""Standard deviations of noise by which a larger candidate may seem better than a smaller one."""
COLLAPSED = 0.1
"""Chance that a candidate trains at all once one of at most its N and s has diverged."""
_LOSS_AFTER_COLLAPSE = 0.10
"""Least accuracy loss expected of such a candidate."""
_SHORT = 0.5
"""The same chance once one has ended short of its sparsity. Gates swing about the target, and
where they are when pruning ends is chance: on the built-in grids larger ones then trained."""
_MISHAPS = frozenset({"out_of_memory", "data_error", "disk_full", "timed_out", "killed", "error"})
"""Causes of failure that say nothing about the accuracy of larger candidates."""
_QUARTILES_PER_STD = 1.349
"""Interquartile range of a normal distribution in standard deviations."""
_TIMING_STD = 0.02
"""Spread of a timing repeated on a quiet machine, in log speed-up."""
_TIE = 1e-9
"""Losses equal up to rounding of the subtraction count as equal."""


@dataclass(frozen=True, kw_only=True)
class PerformancePrediction:
    """What is expected of one candidate; for a measured one, what was measured."""

    candidate: Candidate
    accuracy: float
    accuracy_std: float
    accuracy_loss: float
    accuracy_loss_std: float
    """Includes the noise of measuring this candidate and what is unknown of the baseline's."""
    speedup: float
    """Median of the predicted distribution."""
    log_speedup_std: float
    """Standard deviation of the natural logarithm of the speed-up."""
    least_loss: float
    """Loss of the worst measured candidate that is smaller, less its noise; may be -inf."""
    most_loss: float
    """Loss of the best measured candidate that is larger, plus its noise; may be inf."""
    chance_trained: float
    """Chance that training yields a model at all."""
    is_measured: bool
    is_extrapolated: bool
    """True if no measured points surround the candidate."""


class PerformanceModel:
    """Predicts every candidate, even with only the baseline measured."""

    def __init__(
        self,
        measured: Mapping[Candidate, Measurement],
        failed: Mapping[Candidate, float],
        *,
        validation_size: int,
        stopped: Mapping[Candidate, float] | None = None,
        others: Others | None = None,
    ) -> None:
        self._measured = dict(measured)
        self._others = others
        self._stopped = dict(stopped or {})
        self._failed = dict(failed)
        self._num_examples = validation_size
        self._baseline = measured[BASELINE].accuracy
        self._predictions: dict[Candidate, PerformancePrediction] = {}
        self._fit()

    @classmethod
    def from_measured(
        cls,
        measured: Mapping[Candidate, Measurement],
        failed: Mapping[Candidate, float],
        grid: Sequence[Candidate],
        *,
        validation_size: int | None = None,
        stopped: Mapping[Candidate, float] | None = None,
        others: Others | None = None,
    ) -> "PerformanceModel":
        """Fit both surrogates and predict the grid.

        Args:
            measured: Finished trials; must hold the dense baseline.
            failed: Candidates that failed, and the chance that a larger one trains; see
                `telling_failures`.
            grid: Candidates of which the unmeasured are predicted at once, others when asked for.
            validation_size: Examples behind a new accuracy; the baseline's if None.
            stopped: Most accuracy that candidates stopped early could have reached; larger ones
                are taken to reach no more.
            others: What studies of other tasks tell; None means what is published.

        Raises:
            NoBaselineError: If `measured` lacks the dense baseline.
            UsageError: If a measured accuracy or speed-up isn't finite.
        """
        if BASELINE not in measured:
            raise NoBaselineError("Predictions need the dense baseline (N=1 s=0.00) measured.")
        size = validation_size or measured[BASELINE].num_examples
        model = cls(measured, failed, validation_size=size, stopped=stopped, others=others)
        model.predict([candidate for candidate in grid if candidate not in measured])
        return model

    def predict(self, candidates: Sequence[Candidate]) -> list[PerformancePrediction]:
        """Predict `M` candidates, in their order; defined for every candidate."""
        new = [c for c in dict.fromkeys(candidates) if c not in self._predictions]
        if new:
            self._predictions.update(zip(new, self._predict_new(new), strict=True))
        return [self._predictions[candidate] for candidate in candidates]

    def chance_within(self, candidate: Candidate, budget: float) -> float:
        """Probability that the accuracy loss of `candidate` is at most `budget` (a fraction).

        The loss is normal, cut off at the losses of smaller and larger measured candidates.
        """
        predicted = self.predict([candidate])[0]
        mean, std = predicted.accuracy_loss, predicted.accuracy_loss_std
        low = normal_cdf(predicted.least_loss - mean, std)
        high = normal_cdf(predicted.most_loss - mean, std)
        within = normal_cdf(budget + _TIE - mean, std)
        if high <= low:
            return predicted.chance_trained * (mean <= budget + _TIE)
        share = (min(max(within, low), high) - low) / (high - low)
        return predicted.chance_trained * share

    def expected_gain(
        self,
        candidate: Candidate,
        budgets: Sequence[float],
        best_feasible_speedups: Sequence[float],
    ) -> float:
        """Expected gain in the best feasible speed-up, averaged over the budgets.

        Mean over budgets of `E[(speedup - best)+]` times the chance to be within; accuracy and
        speed-up count as independent, the speed-up as lognormal.

        Args:
            candidate: The point of the space.
            budgets: Fractions.
            best_feasible_speedups: Per budget, the best measured speed-up within it.
        """
        predicted = self.predict([candidate])[0]
        gains = [
            self.chance_within(candidate, budget)
            * _expected_excess(predicted.speedup, predicted.log_speedup_std, best)
            for budget, best in zip(budgets, best_feasible_speedups, strict=True)
        ]
        return float(np.mean(gains)) if gains else 0.0

    def _fit(self) -> None:
        self._places = _places(list(self._measured))
        self._bilinear = BilinearSurrogate()
        self._bilinear.fit(list(self._measured), [m.accuracy for m in self._measured.values()])
        points = spread_out(list(self._measured))
        accuracies = [self._measured[c].accuracy for c in points]
        self._structured = self._fit_trend(points, accuracies)
        self._fit_speeds(points)

    def _fit_speeds(self, points: Sequence[Candidate]) -> None:
        """Fit the law to measured points, and to those that only others measured."""
        known = {c: math.log(self._measured[c].speedup) for c in points}
        told = self._others.log_speedups if self._others else {}
        known = {c: v for c, v in told.items() if c not in self._measured} | known
        values = np.array(list(known.values()))
        laws = [c for c in known if not c.is_baseline]
        self._latency = LatencySurrogate()
        self._latency.fit(laws, [known[c] for c in laws])
        expected = [p.mean if p else 0.0 for p in self._latency.predict(list(known))]
        spread = self._others.speedup_spread if self._others else 0.0
        is_told = np.array([c not in self._measured for c in known])
        noise = is_told * (spread / self._latency.misfit) ** 2
        self._bend = ResidualField(list(known), values - np.array(expected), noise)

    def _fit_trend(
        self, points: Sequence[Candidate], accuracies: Sequence[float]
    ) -> StructuredSurrogate | RelatedSurrogate:
        """Fit the losses; where the trend is below a known least loss, that counts as measured."""
        noise = self._noise_std(self._baseline)
        trend = (
            RelatedSurrogate(self._others, noise_std=noise)
            if self._others
            else StructuredSurrogate(noise_std=noise)
        )
        losses = {c: self._baseline - a for c, a in zip(points, accuracies, strict=True)}
        trend.fit(list(losses), list(losses.values()))
        least = {c: self._baseline - reachable for c, reachable in self._stopped.items()}
        expected = trend.predict(list(least))
        surprising = {
            candidate: loss
            for (candidate, loss), trend_at in zip(least.items(), expected, strict=True)
            if trend_at is not None and trend_at.mean < loss
        }
        if surprising:
            losses |= surprising
            trend.fit(list(losses), list(losses.values()))
        return trend

    def _noise_std(self, accuracy: float) -> float:
        """Binomial standard deviation of one measured accuracy."""
        share = min(max(accuracy, 0.0), 1.0)
        return math.sqrt(share * (1.0 - share) / self._num_examples)

    def _predict_new(self, candidates: Sequence[Candidate]) -> list[PerformancePrediction]:
        unmeasured = [c for c in candidates if c not in self._measured]
        predicted = {}
        if unmeasured:
            predicted = dict(zip(unmeasured, self._predict_unmeasured(unmeasured), strict=True))
        return [predicted.get(c) or self._measured_prediction(c) for c in candidates]

    def _predict_unmeasured(
        self, candidates: Sequence[Candidate]
    ) -> Iterator[PerformancePrediction]:
        is_above = _dominance(self._places, _places(candidates))
        is_below = _dominance(_places(candidates), self._places).T
        speedups = self._log_speedups(candidates, is_above, is_below)
        cells = self._bilinear.cells(candidates)
        is_extrapolated = np.isnan(cells.values).tolist()
        interpolated = (self._baseline - cells.values).tolist()
        is_fine = _are_fine(cells).tolist()
        trends = self._structured.predict(candidates)
        bounds = self._loss_bounds(candidates, is_above, is_below)
        places = _places(candidates)
        doubts = np.array(list(self._failed.values()), dtype=np.float64)
        chances = -_largest(-doubts, _dominance(_places(list(self._failed)), places))
        for m, trend in enumerate(trends):
            assert trend is not None
            yield self._unmeasured(
                candidates[m],
                loss=interpolated[m] if is_fine[m] else trend.mean,
                model_std=trend.std,
                bounds=bounds[m],
                log_speedup=speedups[m],
                is_extrapolated=is_extrapolated[m],
                chance_trained=min(float(chances[m]), 1.0),
            )

    def _measured_prediction(self, candidate: Candidate) -> PerformancePrediction:
        measurement = self._measured[candidate]
        own, base = self._noise_std(measurement.accuracy), self._noise_std(self._baseline)
        throughput = measurement.throughput
        quartiles = max(throughput.speedup_q3 - throughput.speedup_q1, 0.0)
        return PerformancePrediction(
            candidate=candidate,
            accuracy=measurement.accuracy,
            accuracy_std=own,
            accuracy_loss=self._baseline - measurement.accuracy,
            accuracy_loss_std=0.0 if candidate.is_baseline else math.hypot(own, base),
            speedup=measurement.speedup,
            log_speedup_std=0.0
            if candidate.is_baseline  # the unit of all others, however it was timed
            else quartiles / _QUARTILES_PER_STD / measurement.speedup,
            least_loss=-math.inf,
            most_loss=math.inf,
            chance_trained=1.0,
            is_measured=True,
            is_extrapolated=False,
        )

    def _unmeasured(
        self,
        candidate: Candidate,
        *,
        loss: float,
        model_std: float,
        bounds: tuple[float, float],
        log_speedup: tuple[float, float],
        is_extrapolated: bool,
        chance_trained: float,
    ) -> PerformancePrediction:
        least, most = bounds
        loss = max(min(loss, most), least)
        if chance_trained <= COLLAPSED:
            loss = max(loss, _LOSS_AFTER_COLLAPSE)
            most = math.inf
        accuracy = min(max(self._baseline - loss, 0.0), 1.0)
        std = math.hypot(model_std, self._noise_std(accuracy))
        return PerformancePrediction(
            candidate=candidate,
            accuracy=accuracy,
            accuracy_std=std,
            accuracy_loss=self._baseline - accuracy,
            accuracy_loss_std=std,
            speedup=math.exp(log_speedup[0]),
            log_speedup_std=log_speedup[1],
            least_loss=least,
            most_loss=most,
            chance_trained=chance_trained,
            is_measured=False,
            is_extrapolated=is_extrapolated,
        )

    def _loss_bounds(
        self,
        candidates: Sequence[Candidate],
        is_above: NDArray[np.bool_],
        is_below: NDArray[np.bool_],
    ) -> list[tuple[float, float]]:
        """Losses of smaller and of larger measured candidates, give or take their noise.

        `(M, K)`: True where a candidate is above, or below, a measured point.
        What a smaller candidate that was stopped early would have lost at least counts as it is.
        """
        noise = _BOUND_STDS * math.sqrt(2.0) * self._noise_std(self._baseline)
        losses = self._baseline - np.array([m.accuracy for m in self._measured.values()])
        stopped = self._baseline - np.array(list(self._stopped.values()), dtype=np.float64)
        least = _largest(losses - noise, is_above)
        is_beyond = _dominance(_places(list(self._stopped)), _places(candidates))
        least = np.maximum(least, _largest(stopped, is_beyond))
        most = -_largest(-(losses + noise), is_below)
        return list(zip(least.tolist(), most.tolist(), strict=True))

    def _log_speedups(
        self,
        candidates: Sequence[Candidate],
        is_above: NDArray[np.bool_],
        is_below: NDArray[np.bool_],
    ) -> list[tuple[float, float]]:
        """Mean and standard deviation of the log speed-up, monotone against measured points."""
        law = self._latency.predict(candidates)
        bends, left = self._bend.mean(candidates), self._bend.unexplained(candidates)
        known = np.log([m.speedup for m in self._measured.values()])
        above = -_largest(-known, is_below)
        below = _largest(known, is_above)
        pairs = [(p.mean, p.std) if p else (0.0, 0.0) for p in law]
        means, stds = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        means = np.maximum(np.minimum(means + bends, above), below)
        stds = np.maximum(stds * np.sqrt(left), _TIMING_STD)
        return list(zip(means.tolist(), stds.tolist(), strict=True))


def _are_fine(cells: Cells) -> NDArray[np.bool_]:
    """`(M,)`: True where measured points surround a candidate, no wider apart than the paper's."""
    (low, high), (least, most) = cells.widths, cells.sparsities
    return np.asarray((high <= _WIDEST_RATIO * low) & (most - least <= _WIDEST_GAP + _TIE))


def _dominance(few: NDArray[np.float64], many: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`(M, K)`: True where the `K` few have at most N and s of the `M` many, see `_places`."""
    return np.asarray((few[0] <= many[0][:, None]) & (few[1] <= many[1][:, None]))


def _places(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """`(2, K)`: N and s."""
    pairs = [(c.num_instances, c.sparsity) for c in candidates]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2).T


def _largest(values: NDArray[np.float64], is_counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(M,)`: the largest of the `(K,)` values that count in each row of `(M, K)`, or -inf."""
    counted = np.where(is_counted, values, -math.inf)
    return np.asarray(counted.max(axis=1, initial=-math.inf))


def telling_failures(study: StudyRecord) -> dict[Candidate, float]:
    """Failed cells (N, s) whose cause makes larger ones doubtful, and the chance that those train.

    Mishaps are left out, and trials stopped early: those are bounds, see `StudyRecord.stopped`.
    So is what failed with other hyperparameters than the study's own, which may be the reason, and
    a cell of which another setting is measured.
    """
    measured = {candidate.cell for candidate in study.measured}
    return {
        trial.candidate: _SHORT if trial.failure.cause == "sparsity_not_reached" else COLLAPSED
        for trial in study.trials
        if trial.failure is not None
        and trial.failure.cause not in {*_MISHAPS, HOPELESS}
        and not trial.candidate.hyperparameters
        and trial.candidate not in measured
    }


def normal_cdf(margin: float, std: float) -> float:
    """Chance that a normal variable with mean 0 is at most `margin`; a step if `std` is 0."""
    if std <= 0.0:
        return 1.0 if margin >= 0.0 else 0.0
    return 0.5 * math.erfc(-margin / (std * math.sqrt(2.0)))


def _expected_excess(median: float, log_std: float, best: float) -> float:
    """`E[(S - best)+]` for a lognormal `S`."""
    if log_std <= 0.0:
        return max(median - best, 0.0)
    ratio = math.log(median / best)
    mean = median * math.exp(0.5 * log_std**2)
    return mean * normal_cdf(ratio + log_std**2, log_std) - best * normal_cdf(ratio, log_std)
