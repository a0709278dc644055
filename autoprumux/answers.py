"""Answers from a stored study alone: the best measured model per budget, and what is predicted.

Importing this module loads numpy and nothing heavier.
"""

import math
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import islice

from autoprumux.errors import StorageError, UsageError
from autoprumux.hardware import calibrated_speeds_of, require_baseline, require_one_device
from autoprumux.paired import accuracy_std, paired_stds
from autoprumux.ranking import NUM_PREDICTED, TIE, LikelyBest, Place, rank_for_budgets
from autoprumux.records import Candidate, Measurement, StudyRecord
from autoprumux.surrogates.forecasts import normal_cdf
from autoprumux.surrogates.performance import (
    PerformanceModel,
    PerformancePrediction,
    telling_failures,
)

_BASELINE = Candidate(1, 0.0)
_Z = 1.959963984540054
"""Of a two-sided 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """A finished trial, compared with the dense baseline."""

    candidate: Candidate
    measurement: Measurement
    accuracy_loss: float
    """Fraction; negative if more accurate than the baseline."""
    interval: Interval
    """Of the accuracy loss."""
    is_paired: bool
    """True if `interval` rests on the same examples one by one, False if on two accuracies."""
    is_speed_measured: bool = True
    """False if its speed on the hardware asked about is predicted."""

    @property
    def speed_mark(self) -> str:
        """`verified` or `predicted`."""
        return "verified" if self.is_speed_measured else "predicted"

    def chance_within(self, budget: float) -> float:
        """Probability that the true accuracy loss is at most `budget` (a fraction)."""
        return normal_cdf(budget + TIE - self.accuracy_loss, self._std)

    def is_within(self, budget: float, confidence: float | None) -> bool:
        """Yield whether the model counts as within a budget; see `answer_budgets`."""
        if confidence is None:
            return self.accuracy_loss <= budget + TIE
        return self.chance_within(budget) >= confidence

    def needed_budget(self, confidence: float | None) -> float:
        """Smallest budget, a fraction, that the model is within."""
        if confidence is None:
            return self.accuracy_loss
        from statistics import NormalDist  # slow to import, and seldom needed

        return self.accuracy_loss + NormalDist().inv_cdf(confidence) * self._std

    @property
    def _std(self) -> float:
        return (self.interval.high - self.interval.low) / (2.0 * _Z)

    @property
    def speedup(self) -> float:
        """Median throughput over the dense baseline's."""
        return self.measurement.speedup


@dataclass(frozen=True, kw_only=True)
class PredictedModel:
    """A candidate of the ranking, measured or not."""

    candidate: Candidate
    is_verified: bool
    """True if measured; then the numbers are the measured ones."""
    accuracy: float
    accuracy_loss: float
    interval: Interval
    """Of the accuracy loss."""
    speedup: float
    speedup_interval: Interval
    chance: float
    """Probability that the true accuracy loss is within the budget."""
    chance_best: float | None
    """Probability that it is the fastest within the budget, of measured ones as measured; None
    with a confidence."""
    is_extrapolated: bool
    """True if no measured points surround the candidate."""
    is_speed_measured: bool
    """True if its speed was measured on the hardware asked about."""
    is_paired: bool | None = None
    """Of a measured one, see `MeasuredModel.is_paired`; None of one that is not."""

    @property
    def mark(self) -> str:
        """`verified` or `predicted`."""
        return "verified" if self.is_verified else "predicted"


@dataclass(frozen=True, kw_only=True)
class BudgetAnswer:
    """What the study says about one budget."""

    budget: float
    """Largest accuracy loss, a fraction."""
    best: MeasuredModel | None
    """The fastest measured model within the budget; the baseline itself if no faster one is."""
    closest: MeasuredModel | None
    """If no faster model is within the budget: the one that loses least, if any is faster."""
    predicted: tuple[PredictedModel, ...]
    """At most three: those most likely to be the fastest within the budget, the likeliest first.
    With a confidence the fastest that are within the budget with that chance."""
    confidence: float | None = None
    """Least chance of being within the budget that counts; None if measured losses decide."""

    @property
    def is_met(self) -> bool:
        """True if a model faster than the dense baseline meets the budget."""
        return self.best is not None and not self.best.candidate.is_baseline


def answer_budgets(
    study: StudyRecord,
    budgets: Sequence[float],
    *,
    confidence: float | None = None,
    predicted_speeds: AbstractSet[Candidate] = frozenset(),
) -> tuple[BudgetAnswer, ...]:
    """Answer each budget from the study's finished trials.

    Args:
        study: With its trials.
        budgets: Largest accuracy losses, fractions.
        confidence: A model counts as within a budget only if the chance that its true loss is
            within it is at least so high (of a measured one, by the paired test on its examples).
            None: if its measured, or expected, loss is.
        predicted_speeds: Measured candidates whose speed in `study` is predicted.

    Returns:
        One answer per budget, in their order.

    Raises:
        NoBaselineError: If the study has no measured dense baseline.
        UsageError: If `confidence` is outside (0.5, 1).
        MixedDevicesError: If trials were measured in another setting than it was.
        StorageError: If its stored configuration names no widths or sparsities.
    """
    if confidence is not None and not 0.5 < confidence < 1.0:
        raise UsageError(
            f"`--confidence` must be above 0.5 and below 1, got {confidence:g}; leave it out to "
            "have measured losses decide."
        )
    baseline = require_baseline(study)
    require_one_device(study)
    predictor, predictions = _predict(study)
    ranking = _ranking(predictions, study.by_cell, baseline)
    if confidence is None:
        named = rank_for_budgets(ranking, budgets, study.by_cell, predictor.chances_within)
    else:
        named = [
            [LikelyBest(m.candidate, None) for m in ranking if m.loss <= budget + TIE]
            for budget in budgets
        ]
    shown = None if confidence is not None else _shown(study, named)
    models = [
        replace(model, is_speed_measured=False) if model.candidate in predicted_speeds else model
        for model in measured_models(study, baseline, only=shown)
    ]
    scored = set(study.best_settings.values())
    by_cell = {m.candidate.cell: m for m in models if m.candidate in scored}
    return tuple(
        _answer(budget, models, by_cell, (predictor, likely), confidence)
        for budget, likely in zip(budgets, named, strict=True)
    )


def measured_models(
    study: StudyRecord, baseline: Measurement, *, only: Container[Candidate] | None = None
) -> list[MeasuredModel]:
    """Finished trials of `study`, each compared with its dense `baseline`.

    Args:
        study: With its trials.
        baseline: Its dense baseline.
        only: Candidates that are asked for; None means all.
    """
    measured = [(c, m) for c, m in study.measured.items() if only is None or c in only]
    paired = paired_stds([measurement for _, measurement in measured], baseline)
    return [_compare(c, m, baseline, std) for (c, m), std in zip(measured, paired, strict=True)]


def loss_interval(prediction: PerformancePrediction) -> Interval:
    """Interval of a predicted accuracy loss, cut off at smaller and larger measured candidates."""
    loss, reach = prediction.accuracy_loss, _Z * prediction.accuracy_loss_std
    return Interval(
        low=max(loss - reach, prediction.least_loss), high=min(loss + reach, prediction.most_loss)
    )


def speedup_interval(prediction: PerformancePrediction) -> Interval:
    """Interval of a predicted speed-up; of a measured one, that of its timings."""
    factor = math.exp(_Z * prediction.log_speedup_std)
    return Interval(low=prediction.speedup / factor, high=prediction.speedup * factor)


def pareto_front(
    measured: Mapping[Candidate, Measurement],
) -> list[tuple[Candidate, Measurement]]:
    """Measured models that no other one beats in accuracy and speed-up, the slowest first.

    Of models equal in both, the one with the smaller N (then s) stays.
    """
    front: list[tuple[Candidate, Measurement]] = []
    for candidate, measurement in sorted(
        measured.items(), key=lambda item: (-item[1].speedup, -item[1].accuracy, item[0])
    ):
        if not front or measurement.accuracy > front[-1][1].accuracy:
            front.append((candidate, measurement))
    return front[::-1]


def candidate_grid(study: StudyRecord) -> list[Candidate]:
    """Cells (N, s) that the study's configuration spans, in order of N and s.

    Raises:
        StorageError: If the stored configuration names no widths or sparsities.
    """
    search = study.config.get("search")
    if not isinstance(search, Mapping) or not {"widths", "sparsities"} <= search.keys():
        raise StorageError(
            f"The stored configuration of study `{study.name}` lacks `search.widths` or "
            "`search.sparsities`."
        )
    return [Candidate(int(n), float(s)) for n in search["widths"] for s in search["sparsities"]]


def _ranking(
    predictions: Iterable[PerformancePrediction],
    measured: Mapping[Candidate, Measurement],
    baseline: Measurement,
) -> list[Place]:
    """Yield all cells, predicted or measured, the best first."""
    unmeasured = [
        Place(-p.speedup, -p.accuracy, p.candidate, p.accuracy_loss) for p in predictions
    ]
    known = [
        Place(-m.throughput.speedup, -m.accuracy, cell, baseline.accuracy - m.accuracy)
        for cell, m in measured.items()
    ]
    return sorted(unmeasured + known)


def _shown(study: StudyRecord, named: Iterable[Sequence[LikelyBest]]) -> set[Candidate]:
    """Yield the measured candidates that answers can name where measured losses decide.

    The fastest within any budget and the closest to it are on the front.
    """
    best = study.best_settings
    front = {candidate for candidate, _ in pareto_front(study.measured)}
    cells = {found.candidate for likely in named for found in likely}
    return {_BASELINE, *front, *(best[cell] for cell in cells if cell in best)}


def _predict(study: StudyRecord) -> tuple[PerformanceModel, list[PerformancePrediction]]:
    """The model, and its predictions of all unmeasured candidates but those that failed.

    What was stopped early is predicted: it may be within a looser budget than that of its search.
    """
    measured = study.by_cell
    grid = sorted(set(candidate_grid(study)) - measured.keys())
    stopped = study.stopped_cells
    speeds = calibrated_speeds_of(study)
    model = PerformanceModel.from_measured(
        measured, telling_failures(study), grid, stopped=stopped, speeds=speeds
    )
    failed = {t.candidate.cell for t in study.trials if t.failure is not None} - stopped.keys()
    return model, model.predict([c for c in grid if c not in failed])


def _answer(
    budget: float,
    models: Collection[MeasuredModel],
    by_cell: Mapping[Candidate, MeasuredModel],
    named: tuple[PerformanceModel, Sequence[LikelyBest]],
    confidence: float | None,
) -> BudgetAnswer:
    model, likely = named
    predictions = model.predict([found.candidate for found in likely])
    within = [m for m in models if m.is_within(budget, confidence)]
    best = min(within, key=_order, default=None)
    closest = None
    if best is None or best.candidate.is_baseline:
        closest = min(
            _faster(models),
            key=lambda m: (m.needed_budget(confidence), *_order(m)),
            default=None,
        )
    shown = (
        _as_measured(prediction, by_cell[prediction.candidate], budget)
        if prediction.candidate in by_cell
        else _ranked(
            prediction,
            loss_interval(prediction),
            model.chance_within(prediction.candidate, budget),
        )
        for prediction in predictions
    )
    predicted = (
        replace(m, chance_best=found.chance)
        for m, found in zip(shown, likely, strict=True)
        if confidence is None or m.chance >= confidence
    )
    return BudgetAnswer(
        budget=budget,
        best=best,
        closest=closest,
        predicted=tuple(islice(predicted, NUM_PREDICTED)),
        confidence=confidence,
    )


def _faster(models: Collection[MeasuredModel]) -> list[MeasuredModel]:
    baseline = next(m.speedup for m in models if m.candidate.is_baseline)
    return [m for m in models if m.speedup > baseline]


def _order(model: MeasuredModel) -> tuple[float, float, Candidate]:
    return (-model.speedup, -model.measurement.accuracy, model.candidate)


def _as_measured(
    prediction: PerformancePrediction, measured: MeasuredModel, budget: float
) -> PredictedModel:
    ranked = _ranked(prediction, measured.interval, measured.chance_within(budget))
    return replace(
        ranked,
        candidate=measured.candidate,
        is_speed_measured=measured.is_speed_measured,
        is_paired=measured.is_paired,
    )


def _ranked(
    prediction: PerformancePrediction, interval: Interval, chance: float
) -> PredictedModel:
    return PredictedModel(
        candidate=prediction.candidate,
        is_verified=prediction.is_measured,
        accuracy=prediction.accuracy,
        accuracy_loss=prediction.accuracy_loss,
        interval=interval,
        speedup=prediction.speedup,
        speedup_interval=speedup_interval(prediction),
        chance=chance,
        chance_best=None,
        is_extrapolated=prediction.is_extrapolated,
        is_speed_measured=prediction.is_measured,
    )


def _compare(
    candidate: Candidate, model: Measurement, baseline: Measurement, paired_std: float | None
) -> MeasuredModel:
    loss = baseline.accuracy - model.accuracy
    if candidate == _BASELINE:
        std = 0.0
    elif paired_std is not None:
        std = paired_std
    else:
        std = math.hypot(accuracy_std(model), accuracy_std(baseline))
    return MeasuredModel(
        candidate=candidate,
        measurement=model,
        accuracy_loss=loss,
        interval=Interval(low=loss - _Z * std, high=loss + _Z * std),
        is_paired=paired_std is not None,
    )
