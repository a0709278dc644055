"""The measured front beside the two baselines: the paper's Figure 3 for one study."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from autoprumux.answers import MeasuredModel, measured_models, pareto_front
from autoprumux.records import Candidate, Measurement, StudyRecord
from autoprumux.report.page import theme

MAX_WIDTHS_APART = len(theme.OTHERS)
"""More widths than this share one series; the text under the pointer names N."""
MAX_BARS = 80
"""With more models, only those of the front and of the baselines show their intervals."""
MAX_POINTS = 600
"""With more models, only so many are drawn: those of the front, and others evenly spread."""
MAX_BUDGET_LINES = 3
LABEL_WIDTH, LABEL_HEIGHT = 0.2, 0.06
"""Shares of the figure that the label of a budget may take."""

BASELINE_NAME = "dense baseline"
SPEEDUP_TITLE = "speed-up over the dense baseline"

_Z = 1.959963984540054
"""Of a two-sided 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """A measured model as the figure shows it; accuracies are fractions."""

    candidate: Candidate
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    speedup: float
    speedup_q1: float
    speedup_q3: float


@dataclass(frozen=True, kw_only=True)
class FrontInfo:
    """What the figure of the front shows; see `MAX_POINTS`."""

    num_models: int
    """Measured, shown or not."""
    baseline: FrontPoint | None
    front: tuple[FrontPoint, ...]
    """Models that no other one beats in accuracy and speed-up, the slowest first."""
    pruned_only: tuple[FrontPoint, ...]
    """CoFi-only: N = 1, by sparsity, the dense baseline first."""
    muxed_only: tuple[FrontPoint, ...]
    """Multiplexing-only: s = 0, by width, the dense baseline first."""
    combined: dict[int, tuple[FrontPoint, ...]]
    """The others by width, each by sparsity."""
    budgets: tuple[float, ...]
    """Declared or asked, fractions."""

    @property
    def points(self) -> tuple[FrontPoint, ...]:
        """Every shown model once."""
        both = (*self.pruned_only, *self.muxed_only)
        others = (point for points in self.combined.values() for point in points)
        return (*{point.candidate: point for point in both}.values(), *others)


@dataclass(frozen=True, kw_only=True)
class Series:
    """Models that share a look; a line joins them if only N or only s changes."""

    name: str
    points: tuple[FrontPoint, ...]
    colour: str
    symbol: str
    is_line: bool = False


@dataclass(frozen=True, kw_only=True)
class BudgetLine:
    """Where the accuracy of a budget ends."""

    label: str
    height: float
    """Accuracy, percent."""
    place: int
    """0: the label stands at the right end; labels of near lines stand further left."""


def front_info(study: StudyRecord, budgets: Sequence[float]) -> FrontInfo:
    """Sort the measured models of `study` into the series of the figure.

    With a dense baseline, the interval of an accuracy is that of its difference to the baseline
    (95 %), so the baseline's own has no length; without one it is that of a proportion.
    """
    baseline = study.baseline
    points = {c: _alone(c, m) for c, m in study.measured.items()}
    if baseline is not None:
        points = {m.candidate: _compared(m, baseline) for m in measured_models(study, baseline)}
    front = [candidate for candidate, _ in pareto_front(study.measured)]
    scored = sorted(study.best_settings.values())
    ordered = [points[candidate] for candidate in _spread(scored, {*front, Candidate(1, 0.0)})]
    widths = sorted({c.num_instances for c in points if c.num_instances > 1 and c.sparsity > 0})
    return FrontInfo(
        num_models=len(scored),
        baseline=points.get(Candidate(1, 0.0)),
        front=tuple(points[candidate] for candidate in front),
        pruned_only=tuple(p for p in ordered if p.candidate.num_instances == 1),
        muxed_only=tuple(p for p in ordered if p.candidate.sparsity == 0.0),
        combined={
            width: tuple(
                p
                for p in ordered
                if p.candidate.num_instances == width and p.candidate.sparsity > 0
            )
            for width in widths
        },
        budgets=tuple(budgets),
    )


def budget_lines(info: FrontInfo) -> list[BudgetLine]:
    """Yield the lines of all budgets if they are few, else of the tightest and the loosest."""
    budgets = info.budgets
    if info.baseline is None:
        return []
    shown = budgets if len(budgets) <= MAX_BUDGET_LINES else (budgets[0], budgets[-1])
    accuracies = [p.accuracy for p in info.points]
    near = 100 * LABEL_HEIGHT * (max(accuracies) - min(accuracies))
    lines: list[BudgetLine] = []
    for budget in shown:
        height = theme.percent(info.baseline.accuracy - budget)
        is_near = bool(lines) and lines[-1].height - height < near
        place = lines[-1].place + 1 if is_near else 0
        label = f"{100 * budget:g} point" + ("" if budget == 0.01 else "s")
        lines.append(BudgetLine(label=label, height=height, place=place))
    return lines


def series_of(info: FrontInfo) -> list[Series]:
    """Yield the series that hold more than the dense baseline, and it alone at the end."""
    alone = () if info.baseline is None else (info.baseline,)
    series = [
        Series(
            name="CoFi-only (N = 1)",
            points=info.pruned_only,
            colour=theme.PRUNED,
            symbol="circle",
            is_line=True,
        ),
        Series(
            name="multiplexing-only (s = 0)",
            points=info.muxed_only,
            colour=theme.MUXED,
            symbol="square",
            is_line=True,
        ),
        *_combined(info),
    ]
    baseline = Series(name=BASELINE_NAME, points=alone, colour=theme.INK, symbol="star")
    shown = [entry for entry in series if entry.points and entry.points != alone]
    return [*shown, baseline] if alone else shown


def draw_front(info: FrontInfo) -> theme.Figure:
    """Draw accuracy against speed-up."""
    has_all_bars = len(info.points) <= MAX_BARS
    barred = {p.candidate for p in (info.points if has_all_bars else info.front)}
    drawn = theme.chart(
        [_front_line(info), *(_trace(series, barred) for series in series_of(info))],
        x=theme.speedup_axis(SPEEDUP_TITLE, [p.speedup for p in info.points]),
        y={"title": "accuracy, %"},
        height=520,
        shapes=[_budget_line(line) for line in budget_lines(info)],
        annotations=[_budget_label(line) for line in budget_lines(info)],
    )
    return theme.Figure(
        key="front", title="Measured front", caption=_caption(info, has_all_bars), chart=drawn
    )


def _spread(candidates: Sequence[Candidate], kept: Collection[Candidate]) -> list[Candidate]:
    """Yield `candidates`, of many those `kept` and others in equal steps."""
    step = max(1, math.ceil(len(candidates) / MAX_POINTS))
    return [c for place, c in enumerate(candidates) if place % step == 0 or c in kept]


def _combined(info: FrontInfo) -> list[Series]:
    groups = {f"N = {width}, pruned": points for width, points in info.combined.items()}
    if len(groups) > MAX_WIDTHS_APART:
        groups = {"multiplexed and pruned": tuple(p for ps in groups.values() for p in ps)}
    looks = zip(groups.items(), theme.OTHERS, theme.SYMBOLS, strict=False)
    return [
        Series(name=name, points=points, colour=colour, symbol=symbol)
        for (name, points), colour, symbol in looks
    ]


def _compared(model: MeasuredModel, baseline: Measurement) -> FrontPoint:
    return _point(
        model.candidate,
        model.measurement,
        low=baseline.accuracy - model.interval.high,
        high=baseline.accuracy - model.interval.low,
    )


def _alone(candidate: Candidate, measurement: Measurement) -> FrontPoint:
    accuracy = measurement.accuracy
    std = math.sqrt(accuracy * (1.0 - accuracy) / max(measurement.num_examples, 1))
    return _point(candidate, measurement, low=accuracy - _Z * std, high=accuracy + _Z * std)


def _point(
    candidate: Candidate, measurement: Measurement, *, low: float, high: float
) -> FrontPoint:
    return FrontPoint(
        candidate=candidate,
        accuracy=measurement.accuracy,
        accuracy_low=max(low, 0.0),
        accuracy_high=min(high, 1.0),
        speedup=measurement.speedup,
        speedup_q1=measurement.throughput.speedup_q1,
        speedup_q3=measurement.throughput.speedup_q3,
    )


def _front_line(info: FrontInfo) -> go.Scatter:
    """The border of what is reachable: between two models, the accuracy of the faster one."""
    return go.Scatter(
        name="measured front",
        x=[theme.short(p.speedup) for p in info.front],
        y=[theme.percent(p.accuracy) for p in info.front],
        mode="lines",
        line={"shape": "vh", "color": theme.MUTED, "width": 6},
        opacity=0.35,
        hoverinfo="skip",
    )


def _trace(series: Series, barred: Collection[Candidate]) -> go.Scatter:
    points = series.points
    shown = [p.candidate in barred for p in points]
    accuracies = [(100 * p.accuracy_low, 100 * p.accuracy, 100 * p.accuracy_high) for p in points]
    return go.Scatter(
        name=series.name,
        x=[theme.short(p.speedup) for p in points],
        y=[theme.percent(p.accuracy) for p in points],
        error_x=_bars([(p.speedup_q1, p.speedup, p.speedup_q3) for p in points], shown),
        error_y=_bars(accuracies, shown),
        mode="lines+markers" if series.is_line else "markers",
        line={"color": series.colour, "width": 1.5, "dash": "dot"},
        marker={
            "color": series.colour,
            "symbol": series.symbol,
            "size": 15 if series.name == BASELINE_NAME else 10,
        },
        text=[_hover(p) for p in points],
        hovertemplate="%{text}<extra></extra>",
    )


def _bars(
    values: Sequence[tuple[float, float, float]], shown: Sequence[bool]
) -> dict[str, object]:
    """Yield plotly's error bars of (low, middle, high), without length where not `shown`."""
    pairs = list(zip(values, shown, strict=True))
    up = [max(high - middle, 0.0) * is_shown for (_, middle, high), is_shown in pairs]
    down = [max(middle - low, 0.0) * is_shown for (low, middle, _), is_shown in pairs]
    return {
        "type": "data",
        "symmetric": False,
        "array": [round(length, 4) for length in up],
        "arrayminus": [round(length, 4) for length in down],
        "thickness": 1.2,
        "width": 3,
    }


def _hover(point: FrontPoint) -> str:
    return (
        f"<b>{point.candidate}</b><br>accuracy {100 * point.accuracy:.2f} % "
        f"({100 * point.accuracy_low:.2f} to {100 * point.accuracy_high:.2f})<br>"
        f"speed-up {point.speedup:.2f}x ({point.speedup_q1:.2f} to {point.speedup_q3:.2f})"
    )


def _budget_line(line: BudgetLine) -> dict[str, object]:
    return {
        "type": "line",
        "layer": "between",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": line.height,
        "y1": line.height,
        "line": {"color": theme.CHOSEN, "width": 1, "dash": "dash"},
    }


def _budget_label(line: BudgetLine) -> dict[str, object]:
    return {
        "text": line.label,
        "xref": "paper",
        "x": 1.0 - LABEL_WIDTH * line.place,
        "xanchor": "right",
        "y": line.height,
        "yanchor": "bottom",
        "showarrow": False,
        "borderpad": 0,
        "bgcolor": theme.PAPER,
        "font": {"color": theme.CHOSEN, "size": 12},
    }


def _caption(info: FrontInfo, has_all_bars: bool) -> str:
    parts = ["Every mark is a model that was trained and measured; the broad line is the front."]
    num_shown = len(info.points)
    if num_shown < info.num_models:
        parts.append(
            f"Of {info.num_models} models {num_shown} are shown, those on the front and others "
            "evenly spread over N and s."
        )
    if info.baseline is not None:
        parts.append(
            "Vertical bars: 95 % interval of the difference to the dense baseline, added to its "
            "accuracy."
        )
    else:
        parts.append(
            "There is no measured dense baseline; vertical bars: 95 % interval of the accuracy."
        )
    parts.append("Horizontal bars: quartiles of the timings.")
    if not has_all_bars:
        parts.append(f"With more than {MAX_BARS} models, only those on the front show bars.")
    if info.baseline is not None:
        parts.append(
            "Dashed: the budgets."
            if len(info.budgets) <= MAX_BUDGET_LINES
            else "Dashed: the tightest and the loosest budget."
        )
    for name, points in (("N = 1", info.pruned_only), ("s = 0", info.muxed_only)):
        if not any(not p.candidate.is_baseline for p in points):
            parts.append(f"No model with {name} other than the dense baseline is measured.")
    return " ".join(parts)
