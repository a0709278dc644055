"""The course of each training: loss, held-out accuracy and sparsity over its updates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autoprumux.answers import pareto_front
from autoprumux.records import HistoryPoint, PhaseRecord, StudyRecord, TrialRecord
from autoprumux.report.page import theme

MAX_TRIALS, MAX_POINTS = 30, 50
"""Trials that can be chosen, and points that a curve keeps: more would make the page heavy."""

PANELS = ("loss", "held-out accuracy, %", "sparsity")

_COLOURS = {
    "prime": theme.OTHERS[3],
    "pretrain": theme.OTHERS[1],
    "narrow": theme.OTHERS[2],
    "finetune": theme.MUXED,
    "prune": theme.PRUNED,
    "finetune_pruned": theme.OTHERS[0],
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What one phase of one trial reported of one quantity."""

    trial: int
    phase: str
    panel: int
    """Index into `PANELS`."""
    steps: tuple[int, ...]
    """Updates since the trial's first phase began."""
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class CourseInfo:
    """What the figure of the trainings shows."""

    trials: tuple[TrialRecord, ...]
    """Those that can be chosen."""
    curves: tuple[Curve, ...]
    num_measured: int


def course_info(study: StudyRecord) -> CourseInfo:
    """Gather the stored histories; of many trials, those of the front, then the first ones."""
    measured = [t for t in study.trials if t.measurement is not None]
    front = {candidate for candidate, _ in pareto_front(study.measured)}
    front_first = sorted(
        measured, key=lambda t: (not t.candidate.is_baseline, t.candidate not in front, t.number)
    )
    chosen = sorted(front_first[:MAX_TRIALS], key=lambda t: t.number)
    return CourseInfo(
        trials=tuple(chosen),
        curves=tuple(curve for trial in chosen for curve in _curves(trial)),
        num_measured=len(measured),
    )


def draw_courses(info: CourseInfo) -> theme.Figure | None:
    """Draw the curves, those of the last trial visible; nothing if no history is stored."""
    if not info.curves:
        return None
    shown = max(curve.trial for curve in info.curves)
    panels = sorted({curve.panel for curve in info.curves})
    chart = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    height = 80 + 190 * len(panels)
    chart.update_layout(theme.chart([], x={"title": ""}, y={"title": ""}, height=height).layout)
    for trace, panel in _traces(info.curves, shown):
        chart.add_trace(trace, row=panels.index(panel) + 1, col=1)
    for row, panel in enumerate(panels, start=1):
        title = "updates" if panel == panels[-1] else ""
        chart.update_xaxes(theme.axis(title), row=row)
        chart.update_yaxes(theme.axis(PANELS[panel]), row=row)
    caption = (
        "Phases follow each other from left to right; one that came from the checkpoint cache "
        "shows the history of its training. Loss and held-out accuracy are those of training, "
        "not of the validation set."
    )
    if len(info.trials) < info.num_measured:
        caption += (
            f" {len(info.trials)} of {info.num_measured} measured trials can be chosen: the "
            "baseline, the front and the first others."
        )
    return theme.Figure(key="courses", title="Trainings", caption=caption, chart=chart)


def _curves(trial: TrialRecord) -> Iterator[Curve]:
    assert trial.measurement is not None
    start = 0
    for phase in trial.measurement.phases:
        for name in dict.fromkeys(point.name for point in phase.history):
            panel = _panel(name)
            if panel is not None:
                yield _curve(trial.number, phase, name, panel, start)
        start += phase.num_updates


def _panel(name: str) -> int | None:
    if name.endswith("accuracy"):
        return 1
    return {"loss": 0, "sparsity": 2}.get(name)


def _curve(trial: int, phase: PhaseRecord, name: str, panel: int, start: int) -> Curve:
    points = _thinned([point for point in phase.history if point.name == name])
    scale = 100.0 if panel == 1 else 1.0
    return Curve(
        trial=trial,
        phase=phase.name,
        panel=panel,
        steps=tuple(start + point.step for point in points),
        values=tuple(round(scale * point.value, 4) for point in points),
    )


def _thinned(points: Sequence[HistoryPoint]) -> Sequence[HistoryPoint]:
    """Yield at most `MAX_POINTS` points, evenly spread, the first and the last among them."""
    if len(points) <= MAX_POINTS:
        return points
    last = len(points) - 1
    return [points[round(i * last / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]


def _traces(curves: Sequence[Curve], shown: int) -> Iterator[tuple[go.Scatter, int]]:
    """Yield each trace with its panel; a phase has one entry in the legend of its trial."""
    named: set[tuple[int, str]] = set()
    for curve in curves:
        key = (curve.trial, curve.phase)
        colour = _COLOURS.get(curve.phase, theme.INK)
        yield (
            go.Scatter(
                name=curve.phase.replace("_", " "),
                legendgroup=curve.phase,
                showlegend=key not in named,
                meta=curve.trial,
                visible=curve.trial == shown,
                x=curve.steps,
                y=curve.values,
                mode="lines+markers",
                line={"color": colour, "width": 1.8},
                marker={"color": colour, "size": 5},
                hovertemplate="update %{x}: %{y:.4g}",
            ),
            curve.panel,
        )
        named.add(key)
