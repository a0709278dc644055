"""What hyperparameters do to accuracy, learned from settings of the same cell (N, s).

A cell scores with its best setting; `performance` predicts cells from those. Here the accuracy of
a cell `c` with a setting `h` is taken to be

    accuracy(c, h) = level(c) + effect(h) - effect(own) + noise

The level of every cell is unknown, so that only settings of one cell tell something of each other,
and what they tell holds for all cells. The effect is a Gaussian process over the hyperparameters,
each scaled to [0, 1] (by factors if the values span more than `_LOG_RATIO`); its size is estimated
from the differences within cells. A hyperparameter does not change the expected speed-up.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autoprumux.hyperparameters import Hyperparameter, values_of
from autoprumux.records import Candidate, StudyRecord, Value
from autoprumux.surrogates.forecasts import normal_cdf
from autoprumux.surrogates.noise import expected_variances, measurement_variance
from autoprumux.surrogates.performance import (
    PerformanceModel,
    PerformancePrediction,
)

Array = NDArray[np.float64]

_EFFECT_STD, _EFFECT_WEIGHT = 0.01, 4.0
"""Size of an effect before any is seen, a fraction of the examples; counts as four differences."""
_LEVEL_STD = 0.3
"""Of the levels: so wide that a cell's level is known from its own trials only."""
_SCALE = 0.5
"""Distance in [0, 1] at which two effects have a correlation of 0.6."""
_LOG_RATIO = 3.0
_CHANCE_AFTER_NAN = 0.1
"""Chance that a training yields a number with a setting that yielded none elsewhere."""
_TIE = 1e-9

_Trial = tuple[Candidate, float]


@dataclass(frozen=True, kw_only=True)
class SettingModel:
    """Predicts candidates with their hyperparameters, on top of a model of cells."""

    cells: PerformanceModel
    """Fitted on the best setting of every cell."""
    hyperparameters: tuple[Hyperparameter, ...]
    trials: tuple[_Trial, ...]
    """Measured candidates, and those that were stopped with the most they could have reached."""
    variances: tuple[float, ...]
    """Of the accuracies of the trials, see `noise.measurement_variance`."""
    measured_cells: frozenset[Candidate]
    closed_cells: frozenset[Candidate]
    """Those of which no setting is measured and that failed for a reason that others share."""
    nan_settings: frozenset[tuple[tuple[str, Value], ...]]
    """Hyperparameters with which a training ended in no number."""
    baseline_accuracy: float
    num_examples: int
    """Validation examples."""
    _known: dict[Candidate, PerformancePrediction] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def from_study(
        cls,
        record: StudyRecord,
        cells: PerformanceModel,
        hyperparameters: Sequence[Hyperparameter],
        num_examples: int,
    ) -> "SettingModel":
        """Yield the model of what a study with a measured baseline knows."""
        measured, stopped = record.measured, record.stopped
        measured_cells = frozenset(c.cell for c in measured)
        failures = [(t.candidate, t.failure.cause) for t in record.trials if t.failure is not None]
        failed = {c.cell for c, cause in failures if cause != "nan"}
        base = record.baseline
        assert base is not None
        variances = [measurement_variance(m, num_examples) for m in measured.values()]
        of_stopped = expected_variances(list(stopped.values()), num_examples)
        return cls(
            cells=cells,
            hyperparameters=tuple(hyperparameters),
            trials=(*((c, m.accuracy) for c, m in measured.items()), *stopped.items()),
            variances=(*variances, *of_stopped.tolist()),
            measured_cells=measured_cells,
            closed_cells=frozenset(failed - measured_cells),
            nan_settings=frozenset(
                c.hyperparameters for c, cause in failures if cause == "nan" and c.hyperparameters
            ),
            baseline_accuracy=base.accuracy,
            num_examples=num_examples,
        )

    def predict(self, candidates: Sequence[Candidate]) -> list[PerformancePrediction]:
        """Predict `M` candidates, in their order; see `PerformanceModel.predict`."""
        new = [c for c in dict.fromkeys(candidates) if c not in self._known]
        found = self.cells.predict([c.cell for c in new])
        of_measured = [c for c in new if c.cell in self.measured_cells]
        accuracies = dict(zip(of_measured, self._accuracies(of_measured), strict=True))
        for candidate, of_cell in zip(new, found, strict=True):
            prediction = self._prediction(of_cell, accuracies.get(candidate))
            self._known[candidate] = replace(prediction, candidate=candidate)
        return [self._known[candidate] for candidate in candidates]

    def chance_within(self, candidate: Candidate, budget: float) -> float:
        """Probability that the accuracy loss of `candidate` is at most `budget` (a fraction)."""
        return float(self.chances_within([candidate], [budget])[0, 0])

    def chances_within(self, candidates: Sequence[Candidate], budgets: Sequence[float]) -> Array:
        """See `chance_within`, `(B, M)` for `B` budgets and `M` candidates."""
        chances = self.cells.chances_within([c.cell for c in candidates], budgets)
        for m, prediction in enumerate(self.predict(candidates)):
            if candidates[m].cell in self.measured_cells:
                margins = [b + _TIE - prediction.accuracy_loss for b in budgets]
                std = prediction.accuracy_loss_std
                chances[:, m] = [normal_cdf(margin, std) for margin in margins]
            chances[:, m] *= self._chance_trained(candidates[m])
        return chances

    def shortlist(
        self, candidates: Iterable[Candidate], budgets: Sequence[float]
    ) -> list[Candidate]:
        """Yield one of the candidates of each cell: the setting that is worth trying next.

        Of a new cell that is the setting with the best expected effect, of a measured one the one
        with the best chance to meet the budgets. A cell that failed is left alone.
        """
        by_cell: dict[Candidate, list[Candidate]] = {}
        for candidate in candidates:
            if candidate.cell not in self.closed_cells:
                by_cell.setdefault(candidate.cell, []).append(candidate)
        return [self._best_of(of_cell, budgets) for of_cell in by_cell.values()]

    def _best_of(self, candidates: Sequence[Candidate], budgets: Sequence[float]) -> Candidate:
        cell = candidates[0].cell
        if cell not in self.measured_cells:
            tried = {c.hyperparameters for c, _ in self.trials}
            usual = [c for c in candidates if c.hyperparameters in tried]
            return self._with_best_effect(usual or candidates)
        predictions = self.predict(candidates)

        def worth(place: int) -> float:
            prediction = predictions[place]
            chances = (
                normal_cdf(b + _TIE - prediction.accuracy_loss, prediction.accuracy_loss_std)
                for b in budgets
            )
            return self._chance_trained(candidates[place]) * sum(chances)

        return candidates[max(range(len(candidates)), key=worth)]

    def _with_best_effect(self, candidates: Sequence[Candidate]) -> Candidate:
        """Yield the first of the candidates with the best expected effect that isn't NaN's."""
        effects = self._effects(candidates)
        order = sorted(
            range(len(candidates)),
            key=lambda i: (-self._chance_trained(candidates[i]), -round(float(effects[i]), 6), i),
        )
        return candidates[order[0]]

    def _prediction(
        self, of_cell: PerformancePrediction, accuracy: tuple[float, float] | None
    ) -> PerformancePrediction:
        """Yield the prediction of a setting from that of its cell."""
        if accuracy is None:
            return of_cell
        mean, std = accuracy
        return replace(
            of_cell,
            accuracy=min(max(mean, 0.0), 1.0),
            accuracy_std=std,
            accuracy_loss=self.baseline_accuracy - mean,
            accuracy_loss_std=std,
            # Timed again, the cell may seem faster; a setting is not tried for that.
            log_speedup_std=0.0,
            least_loss=-math.inf,
            most_loss=math.inf,
            is_measured=False,
        )

    def _chance_trained(self, candidate: Candidate) -> float:
        return _CHANCE_AFTER_NAN if candidate.hyperparameters in self.nan_settings else 1.0

    def _accuracies(self, candidates: Sequence[Candidate]) -> list[tuple[float, float]]:
        """Mean and standard deviation of the accuracy that a training would be measured with."""
        means, variances = self._posterior(candidates, has_level=True)
        stds = np.sqrt(np.maximum(variances, 0.0) + expected_variances(means, self.num_examples))
        return list(zip(means.tolist(), stds.tolist(), strict=True))

    def _effects(self, candidates: Sequence[Candidate]) -> Array:
        """Expected effects against the study's own setting, `(M,)`."""
        return self._posterior(candidates, has_level=False)[0]

    def _posterior(
        self, candidates: Sequence[Candidate], *, has_level: bool
    ) -> tuple[Array, Array]:
        """Mean and variance of accuracies, or of effects alone, given all trials."""
        if not candidates:
            return np.zeros(0), np.zeros(0)
        points = [candidate for candidate, _ in self.trials]
        values = np.array([value for _, value in self.trials]) - self.baseline_accuracy
        variance = self._effect_variance()
        gram = variance * self._effect(points, points) + _levels(points, points)
        gram += np.diag(self.variances)
        cross = variance * self._effect(candidates, points)
        own = variance * np.diag(self._effect(candidates, candidates))
        if has_level:
            cross = cross + _levels(candidates, points)
            own = own + _LEVEL_STD**2
        weights = np.linalg.solve(gram, np.column_stack([values, cross.T]))
        means = cross @ weights[:, 0]
        left = own - np.einsum("mk,km->m", cross, weights[:, 1:])
        return means + (self.baseline_accuracy if has_level else 0.0), left

    def _effect(self, left: Sequence[Candidate], right: Sequence[Candidate]) -> Array:
        """Correlation of `effect(h) - effect(own)` between candidates."""
        origin = self._places([Candidate(1, 0.0)])
        one, other = self._places(left), self._places(right)
        return np.asarray(
            _similarity(one, other)
            - _similarity(one, origin)
            - _similarity(origin, other)
            + _similarity(origin, origin)
        )

    def _places(self, candidates: Sequence[Candidate]) -> Array:
        """`(K, D)` places of settings: numbers scaled to [0, 1], words as corners."""
        rows = [values_of(self.hyperparameters, candidate) for candidate in candidates]
        columns = [
            column
            for h in self.hyperparameters
            for column in _columns(h, [r[h.key] for r in rows])
        ]
        return np.array(columns, dtype=np.float64).T

    def _effect_variance(self) -> float:
        """Estimated from the differences within cells, with what is usual as a prior."""
        by_cell: dict[Candidate, list[float]] = {}
        for candidate, accuracy in self.trials:
            by_cell.setdefault(candidate.cell, []).append(accuracy)
        squares = sum(len(a) * float(np.var(a)) for a in by_cell.values())
        num = sum(len(a) - 1 for a in by_cell.values())
        return (_EFFECT_WEIGHT * _EFFECT_STD**2 + squares) / (_EFFECT_WEIGHT + num)


def _levels(left: Sequence[Candidate], right: Sequence[Candidate]) -> Array:
    same = [[one.cell == other.cell for other in right] for one in left]
    return _LEVEL_STD**2 * np.array(same, dtype=np.float64).reshape(len(left), len(right))


def _similarity(one: Array, other: Array) -> Array:
    squares = ((one[:, None, :] - other[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-0.5 * squares / _SCALE**2))


def _columns(hyperparameter: Hyperparameter, values: Sequence[Value]) -> list[list[float]]:
    """Yield the coordinates of values: one for numbers, one per word for words."""
    if not hyperparameter.is_number:
        words = hyperparameter.listed or ()
        return [[(value == word) / math.sqrt(2.0) for value in values] for word in words]
    low, high = hyperparameter.span
    numbers = [float(value) for value in values]
    if low > 0 and high > _LOG_RATIO * low:
        return [[math.log(number / low) / math.log(high / low) for number in numbers]]
    return [[(number - low) / (high - low) for number in numbers]]
