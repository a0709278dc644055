"""Best speed-up per budget: measured, and as the performance model expects it."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from autoprumux.answers import BudgetAnswer, Interval, answer_budgets
from autoprumux.records import Candidate, StudyRecord
from autoprumux.report.page import theme

CURVE_STEP, CURVE_STOP = 0.005, 0.10
"""The paper's 21 budgets, 0 to 10 points; the curve goes further if a budget does."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One budget of the curve."""

    budget: float
    """Fraction."""
    candidate: Candidate
    speedup: float
    interval: Interval | None = None
    """Of a predicted speed-up."""
    chance: float | None = None
    """Probability that the predicted model's accuracy loss is within the budget."""
    is_verified: bool = True


@dataclass(frozen=True, kw_only=True)
class BudgetInfo:
    """What the table of answers and the budget curve show."""

    answers: tuple[BudgetAnswer, ...]
    """To the budgets that were asked."""
    measured: tuple[CurvePoint, ...]
    """The fastest measured model of each budget that has one."""
    predicted: tuple[CurvePoint, ...]
    """The first of the ranking, measured or not, of each budget that has one."""


def budget_info(study: StudyRecord, budgets: Sequence[float]) -> BudgetInfo:
    """Ask the study for `budgets` and for those of the curve.

    Raises:
        NoBaselineError: If the study has no measured dense baseline.
        StorageError: If its stored configuration names no widths or sparsities.
    """
    stop = max((CURVE_STOP, *budgets))
    regular = [round(i * CURVE_STEP, 6) for i in range(int(stop / CURVE_STEP + 1e-6) + 1)]
    every = sorted({*regular, *budgets})
    answers = dict(zip(every, answer_budgets(study, every), strict=True))
    return BudgetInfo(
        answers=tuple(answers[budget] for budget in budgets),
        measured=tuple(
            CurvePoint(budget=b, candidate=a.best.candidate, speedup=a.best.speedup)
            for b, a in answers.items()
            if a.best is not None
        ),
        predicted=tuple(_predicted(b, a) for b, a in answers.items() if a.predicted),
    )


def draw_budgets(info: BudgetInfo) -> theme.Figure:
    """Draw both curves."""
    speedups = [p.speedup for p in (*info.measured, *info.predicted)]
    drawn = theme.chart(
        [_measured_trace(info.measured), _predicted_trace(info.predicted)],
        x={"title": "accuracy-loss budget, points", "rangemode": "tozero"},
        y=theme.speedup_axis("best speed-up", speedups),
        height=420,
    )
    caption = (
        "Measured: the fastest trained model that loses at most so much. Predicted: the candidate "
        "that is most likely the fastest within the budget, with the 95 % interval of its "
        "speed-up; filled marks are measured already. Its chance of meeting the budget (under the "
        "pointer) can be below one half."
    )
    return theme.Figure(key="budgets", title="Budget curve", caption=caption, chart=drawn)


def _predicted(budget: float, answer: BudgetAnswer) -> CurvePoint:
    first = answer.predicted[0]
    return CurvePoint(
        budget=budget,
        candidate=first.candidate,
        speedup=first.speedup,
        interval=first.speedup_interval,
        chance=first.chance,
        is_verified=first.is_verified,
    )


def _measured_trace(points: Sequence[CurvePoint]) -> go.Scatter:
    return go.Scatter(
        name="measured",
        x=[theme.percent(p.budget) for p in points],
        y=[p.speedup for p in points],
        mode="lines+markers",
        line={"shape": "hv", "color": theme.PRUNED, "width": 2.5},
        marker={"color": theme.PRUNED, "size": 7},
        text=[f"{p.candidate}, {p.speedup:.2f}x, measured" for p in points],
        hovertemplate="%{x:g} points: %{text}<extra></extra>",
    )


def _predicted_trace(points: Sequence[CurvePoint]) -> go.Scatter:
    intervals = [p.interval or Interval(low=p.speedup, high=p.speedup) for p in points]
    return go.Scatter(
        name="predicted",
        x=[theme.percent(p.budget) for p in points],
        y=[p.speedup for p in points],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [i.high - p.speedup for i, p in zip(intervals, points, strict=True)],
            "arrayminus": [p.speedup - i.low for i, p in zip(intervals, points, strict=True)],
            "thickness": 1.2,
            "width": 3,
        },
        mode="lines+markers",
        line={"shape": "hv", "color": theme.CHOSEN, "width": 1.5, "dash": "dot"},
        marker={
            "color": theme.CHOSEN,
            "size": 8,
            "symbol": ["diamond" if p.is_verified else "diamond-open" for p in points],
        },
        text=[
            f"{p.candidate}, {p.speedup:.2f}x, "
            + ("measured" if p.is_verified else f"predicted, chance {p.chance:.2f}")
            for p in points
        ],
        hovertemplate="%{x:g} points: %{text}<extra></extra>",
    )
