"""How far the performance model can be trusted: each measured model predicted from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from autoprumux.answers import Interval, candidate_grid, loss_interval, speedup_interval
from autoprumux.hardware import calibrated_speeds_of
from autoprumux.records import Candidate, Measurement, StudyRecord
from autoprumux.report.page import theme
from autoprumux.surrogates.calibrated import CalibratedSpeeds
from autoprumux.surrogates.performance import BASELINE, PerformanceModel, telling_failures

MAX_LEFT_OUT = 40
"""Of more measured models so many are left out in turn, evenly spread over the trials: every one
costs a fit, a tenth of a second with 500 trials."""
MAX_GRID = 100
"""Cells that are predicted beside each, so that losses never fall with N or s."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A measured model and what the others predict for it; losses are fractions."""

    candidate: Candidate
    loss: float
    predicted_loss: float
    loss_interval: Interval
    """95 %, with the noise of measuring it."""
    speedup: float
    predicted_speedup: float
    speedup_interval: Interval

    @property
    def is_loss_covered(self) -> bool:
        """True if the interval holds the measured loss."""
        return self.loss_interval.low <= self.loss <= self.loss_interval.high

    @property
    def is_speedup_covered(self) -> bool:
        """True if the interval holds the measured speed-up."""
        return self.speedup_interval.low <= self.speedup <= self.speedup_interval.high


@dataclass(frozen=True, kw_only=True)
class CalibrationInfo:
    """What the figures of the calibration show."""

    left_out: tuple[LeftOut, ...]
    num_measured: int
    """Measured models but the dense baseline."""

    @property
    def mean_loss_error(self) -> float:
        """Mean absolute error of the accuracy, in points."""
        errors = [abs(p.predicted_loss - p.loss) for p in self.left_out]
        return 100.0 * sum(errors) / len(errors)

    @property
    def mean_speedup_error(self) -> float:
        """Mean absolute error of the speed-up, in percent of it."""
        errors = [abs(p.predicted_speedup / p.speedup - 1.0) for p in self.left_out]
        return 100.0 * sum(errors) / len(errors)


def calibration_info(study: StudyRecord, baseline: Measurement) -> CalibrationInfo:
    """Leave out each measured model in turn and predict it from the rest.

    Args:
        study: With its trials.
        baseline: Its dense baseline, which is never left out.
    """
    measured = study.by_cell
    others = [candidate for candidate in measured if not candidate.is_baseline]
    chosen = _spread(others, MAX_LEFT_OUT)
    failed = telling_failures(study)
    grid, speeds = _spread(candidate_grid(study), MAX_GRID), calibrated_speeds_of(study)
    return CalibrationInfo(
        left_out=tuple(_left_out(c, measured, failed, (grid, speeds)) for c in chosen),
        num_measured=len(others),
    )


def draw_calibration(info: CalibrationInfo) -> list[theme.Figure]:
    """Draw predicted against measured, for accuracy and for speed-up; nothing without points."""
    points = info.left_out
    if not points:
        return []
    losses = _scatter(
        points,
        [100 * p.loss for p in points],
        [100 * p.predicted_loss for p in points],
        [(100 * p.loss_interval.low, 100 * p.loss_interval.high) for p in points],
        covered=[p.is_loss_covered for p in points],
    )
    speedups = _scatter(
        points,
        [p.speedup for p in points],
        [p.predicted_speedup for p in points],
        [(p.speedup_interval.low, p.speedup_interval.high) for p in points],
        covered=[p.is_speedup_covered for p in points],
    )
    scale = [value for p in points for value in (p.speedup, p.predicted_speedup)]
    return [
        _figure(
            "calibration-accuracy",
            "Accuracy loss",
            losses,
            x={"title": "measured accuracy loss, points"},
            y={"title": "predicted without it"},
            told=f"{sum(p.is_loss_covered for p in points)} of {len(points)} intervals hold the "
            f"measured loss; the mean error is {info.mean_loss_error:.2f} points.",
        ),
        _figure(
            "calibration-speedup",
            "Speed-up",
            speedups,
            x=theme.speedup_axis("measured speed-up", scale),
            y=theme.speedup_axis("predicted without it", scale),
            told=f"{sum(p.is_speedup_covered for p in points)} of {len(points)} intervals hold "
            f"the measured speed-up; the mean error is {info.mean_speedup_error:.1f} %.",
        ),
    ]


def _spread(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    if len(candidates) <= most:
        return list(candidates)
    return [candidates[i * len(candidates) // most] for i in range(most)]


def _left_out(
    candidate: Candidate,
    measured: dict[Candidate, Measurement],
    failed: Mapping[Candidate, float],
    prior: tuple[Sequence[Candidate], CalibratedSpeeds | None],
) -> LeftOut:
    rest = {c: m for c, m in measured.items() if c != candidate}
    size = measured[candidate].num_examples
    grid, speeds = prior
    model = PerformanceModel.from_measured(rest, failed, grid, validation_size=size, speeds=speeds)
    baseline = measured[BASELINE]
    predicted = model.predict([candidate])[0]
    return LeftOut(
        candidate=candidate,
        loss=baseline.accuracy - measured[candidate].accuracy,
        predicted_loss=predicted.accuracy_loss,
        loss_interval=loss_interval(predicted),
        speedup=measured[candidate].speedup,
        predicted_speedup=predicted.speedup,
        speedup_interval=speedup_interval(predicted),
    )


def _scatter(
    points: Sequence[LeftOut],
    measured: Sequence[float],
    predicted: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    covered: Sequence[bool],
) -> list[go.Scatter]:
    """The diagonal, and the points; those whose interval misses are drawn apart."""
    ends = [
        min(*measured, *(low for low, _ in intervals)),
        max(*measured, *(high for _, high in intervals)),
    ]
    traces = [
        go.Scatter(
            name="exact",
            x=ends,
            y=ends,
            mode="lines",
            line={"color": theme.MUTED, "dash": "dash", "width": 1},
            hoverinfo="skip",
        )
    ]
    for is_covered, name, colour, symbol in (
        (True, "interval holds", theme.MUXED, "circle"),
        (False, "interval misses", theme.PRUNED, "x"),
    ):
        chosen = [i for i, held in enumerate(covered) if held == is_covered]
        if not chosen:
            continue
        traces.append(
            go.Scatter(
                name=name,
                x=[round(measured[i], 4) for i in chosen],
                y=[round(predicted[i], 4) for i in chosen],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [round(intervals[i][1] - predicted[i], 4) for i in chosen],
                    "arrayminus": [round(predicted[i] - intervals[i][0], 4) for i in chosen],
                    "thickness": 1.2,
                    "width": 3,
                },
                mode="markers",
                marker={"color": colour, "size": 8, "symbol": symbol},
                text=[
                    f"<b>{points[i].candidate}</b><br>measured {measured[i]:.2f}, predicted "
                    f"{predicted[i]:.2f} ({intervals[i][0]:.2f} to {intervals[i][1]:.2f})"
                    for i in chosen
                ],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return traces


def _figure(
    key: str,
    title: str,
    traces: list[go.Scatter],
    *,
    x: dict[str, object],
    y: dict[str, object],
    told: str,
) -> theme.Figure:
    chart = theme.chart(traces, x=x, y=y, height=400)
    return theme.Figure(key=key, title=title, caption=told, chart=chart)
