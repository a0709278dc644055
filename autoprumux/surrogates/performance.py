"""Accuracy and speed-up of every candidate together, from whatever is measured so far.

Accuracy is that of the curves which agree with the measured points; with studies of other tasks as
prior it is theirs, bent to pass through the points. Neither may beat a measured point that is
smaller in N and s. Speed-up is the latency law, or what a calibration expects, and what measured
points deviate from it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoprumux.errors import NoBaselineError
from autoprumux.records import HOPELESS, Candidate, Measurement, StudyRecord
from autoprumux.surrogates.bilinear import BilinearSurrogate
from autoprumux.surrogates.bounded import TIE, BoundedLosses
from autoprumux.surrogates.calibrated import CalibratedSpeeds
from autoprumux.surrogates.curve_losses import CurveLosses
from autoprumux.surrogates.forecasts import LossForecasts, LossModel, normal_cdf
from autoprumux.surrogates.monotone import MonotoneValues
from autoprumux.surrogates.noise import SEED_STD, expected_variances, sampling_variance
from autoprumux.surrogates.related import Others
from autoprumux.surrogates.related_losses import RelatedLosses
from autoprumux.surrogates.speedups import SpeedupModel
from autoprumux.surrogates.spreading import spread_out

BASELINE = Candidate(1, 0.0)

_BOUND_STDS = 3.0
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
    most_speedup: float
    """Speed-up of the slowest measured candidate that is larger; may be inf."""
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
        speeds: CalibratedSpeeds | None = None,
        grid: Sequence[Candidate] = (),
    ) -> None:
        self._measured = dict(measured)
        self._others, self._calibrated = others, speeds
        self._stopped = dict(stopped or {})
        self._failed = dict(failed)
        self._num_examples = validation_size
        self._baseline = measured[BASELINE].accuracy
        self._sampling = {c: sampling_variance(m, validation_size) for c, m in measured.items()}
        self._variances = {c: variance + SEED_STD**2 for c, variance in self._sampling.items()}
        self._predictions: dict[Candidate, PerformancePrediction] = {}
        self._bounded: dict[Candidate, tuple[BoundedLosses, int]] = {}
        self._fit()
        self._monotone = MonotoneValues([], np.empty(0))
        self._predict_grid([c for c in dict.fromkeys(grid) if c not in measured])

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
        speeds: CalibratedSpeeds | None = None,
    ) -> "PerformanceModel":
        """Fit both surrogates and predict the grid.

        Args:
            measured: Finished trials; must hold the dense baseline.
            failed: Candidates that failed, and the chance that a larger one trains; see
                `telling_failures`.
            grid: Candidates of which the unmeasured are predicted at once, with losses that never
                fall with N or s; others are predicted when asked for, between those.
            validation_size: Examples behind a new accuracy, and behind measured ones that don't
                tell; the baseline's if None.
            stopped: Most accuracy that candidates stopped early could have reached; larger ones
                are taken to reach no more.
            others: What studies of other tasks tell; None means what is published.
            speeds: What a calibration of the device expects; None means what is published.

        Raises:
            NoBaselineError: If `measured` lacks the dense baseline.
            UsageError: If a measured accuracy or speed-up isn't finite.
        """
        if BASELINE not in measured:
            raise NoBaselineError("Predictions need the dense baseline (N=1 s=0.00) measured.")
        size = validation_size or measured[BASELINE].num_examples
        return cls(
            measured,
            failed,
            validation_size=size,
            stopped=stopped,
            others=others,
            speeds=speeds,
            grid=grid,
        )

    def predict(self, candidates: Sequence[Candidate]) -> list[PerformancePrediction]:
        """Predict `M` candidates, in their order; defined for every candidate."""
        new = [c for c in dict.fromkeys(candidates) if c not in self._predictions]
        measured = [c for c in new if c in self._measured]
        self._predictions |= {c: self._measured_prediction(c) for c in measured}
        unmeasured = [c for c in new if c not in self._measured]
        if unmeasured:
            self._predict_unmeasured(unmeasured, self._losses.predict(unmeasured))
        return [self._predictions[candidate] for candidate in candidates]

    def chance_within(self, candidate: Candidate, budget: float) -> float:
        """Probability that the accuracy loss of `candidate` is at most `budget` (a fraction).

        The predicted distribution is cut off at the losses of smaller and larger measured
        candidates.
        """
        return float(self.chances_within([candidate], [budget])[0, 0])

    def chances_within(
        self, candidates: Sequence[Candidate], budgets: Sequence[float]
    ) -> NDArray[np.float64]:
        """See `chance_within`, `(B, M)` for `B` budgets and `M` candidates."""
        predictions = self.predict(candidates)
        chances = np.empty((len(budgets), len(candidates)))
        groups: dict[int, tuple[BoundedLosses, list[int], list[int]]] = {}
        for m, prediction in enumerate(predictions):
            if prediction.is_measured:
                margins = [b + TIE - prediction.accuracy_loss for b in budgets]
                std = prediction.accuracy_loss_std
                chances[:, m] = [normal_cdf(margin, std) for margin in margins]
            else:
                losses, place = self._bounded[candidates[m]]
                _, asked, places = groups.setdefault(id(losses), (losses, [], []))
                asked.append(m)
                places.append(place)
        for losses, asked, places in groups.values():
            chances[:, asked] = losses.chances_within(budgets)[:, places]
        return chances

    def _fit(self) -> None:
        self._places = _places(list(self._measured))
        points = spread_out(list(self._measured))
        self._losses = self._fit_losses(points)
        self._fit_speeds(points)

    def _fit_speeds(self, points: Sequence[Candidate]) -> None:
        """Learn from measured points, and from those that only others measured.

        With others, what is learnt is what all tasks share.
        """
        known = {c: math.log(self._measured[c].speedup) for c in points}
        if self._others is None:
            self._speedups = SpeedupModel(known, expected=self._calibrated)
            return
        others = self._others.speedups
        told = {c: value for c, value in others.means.items() if c not in self._measured}
        own_stds = dict(zip(known, others.stds(list(known)).tolist(), strict=True))
        errors = others.errors | own_stds
        self._speedups = SpeedupModel(told | known, errors, expected=self._calibrated)

    def _fit_losses(self, points: Sequence[Candidate]) -> LossModel:
        base = self._baseline
        losses = {c: base - self._measured[c].accuracy for c in points if not c.is_baseline}
        least = {c: base - reachable for c, reachable in self._stopped.items()}
        shared = self._sampling[BASELINE]  # losses are against this very model
        if self._others is None:
            return CurveLosses(losses, least, variances=self._variances, shared=shared)
        return RelatedLosses(
            losses,
            least,
            others=self._others,
            variances=self._variances,
            shared=shared,
            interpolant=self._bilinear,
            accuracy=base,
        )

    @cached_property
    def _bilinear(self) -> BilinearSurrogate:
        bilinear = BilinearSurrogate()
        bilinear.fit(list(self._measured), [m.accuracy for m in self._measured.values()])
        return bilinear

    def _predict_grid(self, candidates: Sequence[Candidate]) -> None:
        """Predict the candidates that all others are kept between."""
        if candidates:
            forecasts = self._losses.predict(candidates)
            self._monotone = MonotoneValues(candidates, forecasts.mean)
            self._predict_unmeasured(candidates, forecasts)

    def _predict_unmeasured(
        self, candidates: Sequence[Candidate], forecasts: LossForecasts
    ) -> None:
        places = _places(candidates)
        is_above = _dominance(self._places, places)
        is_below = _dominance(places, self._places).T
        speedups = self._speedups_of(candidates, is_above, is_below)
        is_extrapolated = np.isnan(self._bilinear.cells(candidates).values).tolist()
        forecasts = self._monotone_forecasts(candidates, forecasts)
        doubts = np.array(list(self._failed.values()), dtype=np.float64)
        chances = -_largest(-doubts, _dominance(_places(list(self._failed)), places))
        trained = np.minimum(chances, 1.0) * forecasts.chances_trained
        least, most = self._loss_bounds(candidates, is_above, is_below)
        losses = np.maximum(np.minimum(forecasts.mean, most), least)
        losses = np.where(trained <= COLLAPSED, np.maximum(losses, _LOSS_AFTER_COLLAPSE), losses)
        most = np.where(trained <= COLLAPSED, math.inf, most)
        accuracies = np.clip(self._baseline - losses, 0.0, 1.0)
        noise = np.sqrt(expected_variances(accuracies, self._num_examples))
        stds = np.hypot(forecasts.std, noise)
        bounded = BoundedLosses(
            forecasts=forecasts,
            expected=self._baseline - accuracies,
            noise=noise,
            least=least,
            most=most,
            chances_trained=trained,
        )
        for m, candidate in enumerate(candidates):
            self._bounded[candidate] = (bounded, m)
            self._predictions[candidate] = PerformancePrediction(
                candidate=candidate,
                accuracy=float(accuracies[m]),
                accuracy_std=float(stds[m]),
                accuracy_loss=self._baseline - float(accuracies[m]),
                accuracy_loss_std=float(stds[m]),
                speedup=speedups[m][0],
                log_speedup_std=speedups[m][1],
                most_speedup=speedups[m][2],
                least_loss=float(least[m]),
                most_loss=float(most[m]),
                chance_trained=float(trained[m]),
                is_measured=False,
                is_extrapolated=is_extrapolated[m],
            )

    def _monotone_forecasts(
        self, candidates: Sequence[Candidate], forecasts: LossForecasts
    ) -> LossForecasts:
        """Move forecasts so that expected losses never fall with N or s.

        They are at least 0, or the least that was measured.
        """
        least = min(0.0, self._baseline - max(m.accuracy for m in self._measured.values()))
        expected = self._monotone.at(candidates, forecasts.mean)
        return forecasts.moved_to(np.maximum(expected, least))

    def _measured_prediction(self, candidate: Candidate) -> PerformancePrediction:
        measurement = self._measured[candidate]
        own, base = math.sqrt(self._sampling[candidate]), math.sqrt(self._sampling[BASELINE])
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
            most_speedup=math.inf,
            least_loss=-math.inf,
            most_loss=math.inf,
            chance_trained=1.0,
            is_measured=True,
            is_extrapolated=False,
        )

    def _loss_bounds(
        self,
        candidates: Sequence[Candidate],
        is_above: NDArray[np.bool_],
        is_below: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Losses `(M,)` of smaller and of larger measured candidates, give or take their noise.

        `(M, K)`: True where a candidate is above, or below, a measured point.
        What a smaller candidate that was stopped early would have lost at least counts as it is.
        """
        variances = np.array(list(self._variances.values())) + self._variances[BASELINE]
        noise = _BOUND_STDS * np.sqrt(variances)
        losses = self._baseline - np.array([m.accuracy for m in self._measured.values()])
        stopped = self._baseline - np.array(list(self._stopped.values()), dtype=np.float64)
        least = _largest(losses - noise, is_above)
        is_beyond = _dominance(_places(list(self._stopped)), _places(candidates))
        least = np.maximum(least, _largest(stopped, is_beyond))
        most = -_largest(-(losses + noise), is_below)
        return least, most

    def _speedups_of(
        self,
        candidates: Sequence[Candidate],
        is_above: NDArray[np.bool_],
        is_below: NDArray[np.bool_],
    ) -> list[tuple[float, float, float]]:
        """Median and standard deviation in logarithms of speed-ups, and the most they may be.

        Medians are monotone against measured points.
        """
        means, stds = self._speedups.predict(candidates)
        if self._others is not None:
            stds = np.hypot(stds, self._others.speedups.stds(candidates))
        known = np.log([m.speedup for m in self._measured.values()])
        above = -_largest(-known, is_below)
        below = _largest(known, is_above)
        medians = np.exp(np.maximum(np.minimum(means, above), below))
        return list(zip(medians.tolist(), stds.tolist(), np.exp(above).tolist(), strict=True))


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
