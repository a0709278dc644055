"""The paper's Table 1: errors at candidates that the surrogates were not fitted on.

Counted are accuracies within 1.5 points and speed-ups within 20 % of what was measured, for each
candidate of the training grid left out in turn, and for the unseen candidates.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from autoprumux.records import Candidate, Measurement
from autoprumux.surrogates.base import Prediction
from autoprumux.surrogates.bilinear import Direction, leave_one_out
from autoprumux.surrogates.pairs import PaperPair, SurrogatePair
from autoprumux.validation.grid import MeasuredGrid

Target = Literal["accuracy", "speedup"]
Points = Literal["left out", "unseen"]

TOLERANCES: Mapping[Target, float] = {"accuracy": 0.015, "speedup": 0.20}
"""Of an accuracy a fraction, of a speed-up a share of the measured one."""

LEVELS: Mapping[float, float] = {0.5: 0.67448975, 0.8: 1.28155157, 0.9: 1.64485363}
"""Shares of a normal distribution within so many standard deviations of its mean."""

_BORDER = 1e-9

_DIRECTIONS: Mapping[str, Direction] = {
    "bilinear along s": "sparsity",
    "bilinear along N": "width",
    "bilinear, mean of both": "both",
}


@dataclass(frozen=True, kw_only=True)
class PointError:
    """One prediction against what was measured."""

    candidate: Candidate
    measured: float
    predicted: Prediction | None
    error: float
    """Predicted less measured: a fraction, of the measured speed-up for speed-ups."""


@dataclass(frozen=True, kw_only=True)
class IntervalRow:
    """How often intervals of one level hold, and how wide they are: calibration and sharpness."""

    level: float
    """Share of the measured values that should be inside."""
    num_covered: int
    """Measured values inside."""
    num_intervals: int
    mean_width: float
    """A fraction; of speed-ups the natural logarithm of upper over lower end."""


@dataclass(frozen=True, kw_only=True)
class ErrorRow:
    """A row of Table 1."""

    surrogate: str
    target: Target
    points: Points
    """`left out` (of the training grid) or `unseen` (sparsities that nothing is fitted on)."""
    errors: tuple[PointError, ...]

    @property
    def num_points(self) -> int:
        """Points asked for."""
        return len(self.errors)

    @property
    def num_predicted(self) -> int:
        """Points for which the surrogate is defined."""
        return sum(error.predicted is not None for error in self.errors)

    @property
    def num_within(self) -> int:
        """Predictions within the tolerance."""
        return sum(map(self._is_within, self.errors))

    @property
    def num_interpolated(self) -> int:
        """Predictions between measured points."""
        return sum(map(_is_interpolated, self.errors))

    @property
    def num_interpolated_within(self) -> int:
        """Predictions between measured points within the tolerance."""
        return sum(_is_interpolated(e) and self._is_within(e) for e in self.errors)

    @property
    def mean_error(self) -> float | None:
        """Mean of the absolute errors; `None` without a prediction."""
        errors = [abs(e.error) for e in self.errors if e.predicted is not None]
        return sum(errors) / len(errors) if errors else None

    @property
    def intervals(self) -> tuple[IntervalRow, ...]:
        """Intervals of 50, 80 and 90 %; none if the surrogate gives none."""
        stds = [e.predicted.std for e in self.errors if e.predicted is not None]
        if not any(stds):
            return ()
        return tuple(
            IntervalRow(
                level=level,
                num_covered=sum(self._is_covered(e, reach) for e in self.errors),
                num_intervals=len(stds),
                mean_width=2.0 * reach * sum(stds) / len(stds),
            )
            for level, reach in LEVELS.items()
        )

    def _is_within(self, error: PointError) -> bool:
        return (
            error.predicted is not None and abs(error.error) <= TOLERANCES[self.target] + _BORDER
        )

    def _is_covered(self, error: PointError, reach: float) -> bool:
        """Yield whether it was measured within so many standard deviations of the prediction."""
        if error.predicted is None:
            return False
        is_speedup = self.target == "speedup"
        measured = math.log(error.measured) if is_speedup else error.measured
        return abs(measured - error.predicted.mean) <= reach * error.predicted.std + _BORDER


def error_rows(
    pairs: Sequence[SurrogatePair], grid: MeasuredGrid, *, has_table: bool
) -> Iterator[ErrorRow]:
    """Yield the rows of Table 1.

    Args:
        pairs: The surrogates.
        grid: What was measured.
        has_table: False if the paper's throughput table is the study's own, whose errors are 0.
    """
    accuracies = [grid.measured[candidate].accuracy for candidate in grid.training]
    for name, direction in _DIRECTIONS.items():
        left_out = leave_one_out(grid.training, accuracies, direction=direction)
        yield _row(name, "accuracy", "left out", grid, left_out)
    for pair in pairs:
        if not isinstance(pair, PaperPair):
            left_out = _leave_one_out(pair.accuracies, grid)
            yield _row(pair.name, "accuracy", "left out", grid, left_out)
        unseen = pair.accuracies(grid.fitted, grid.unseen)
        yield _row(pair.name, "accuracy", "unseen", grid, unseen)
    for pair in pairs:
        if has_table or not isinstance(pair, PaperPair):
            left_out = _leave_one_out(pair.log_speedups, grid)
            yield _row(pair.name, "speedup", "left out", grid, left_out)
            unseen = pair.log_speedups(grid.fitted, grid.unseen)
            yield _row(pair.name, "speedup", "unseen", grid, unseen)


def _is_interpolated(error: PointError) -> bool:
    return error.predicted is not None and not error.predicted.is_extrapolated


def _leave_one_out(
    predict: Callable[
        [Mapping[Candidate, Measurement], Sequence[Candidate]], list[Prediction | None]
    ],
    grid: MeasuredGrid,
) -> list[Prediction | None]:
    return [
        predict({c: m for c, m in grid.fitted.items() if c != left_out}, [left_out])[0]
        for left_out in grid.training
    ]


def _row(
    surrogate: str,
    target: Target,
    points: Points,
    grid: MeasuredGrid,
    predictions: Sequence[Prediction | None],
) -> ErrorRow:
    candidates = grid.training if points == "left out" else grid.unseen
    error_at = _accuracy_error if target == "accuracy" else _speedup_error
    errors = (
        error_at(candidate, grid.measured[candidate], predicted)
        for candidate, predicted in zip(candidates, predictions, strict=True)
    )
    return ErrorRow(surrogate=surrogate, target=target, points=points, errors=tuple(errors))


def _accuracy_error(
    candidate: Candidate, measurement: Measurement, predicted: Prediction | None
) -> PointError:
    measured = measurement.accuracy
    error = predicted.mean - measured if predicted else math.nan
    return PointError(candidate=candidate, measured=measured, predicted=predicted, error=error)


def _speedup_error(
    candidate: Candidate, measurement: Measurement, predicted: Prediction | None
) -> PointError:
    measured = measurement.speedup
    error = math.exp(predicted.mean) / measured - 1.0 if predicted else math.nan
    return PointError(candidate=candidate, measured=measured, predicted=predicted, error=error)
