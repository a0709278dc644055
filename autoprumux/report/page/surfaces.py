"""Accuracy and speed-up over (N, s) as the performance model knows them, with their doubt."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import plotly.graph_objects as go

from autoprumux.answers import (
    Interval,
    MeasuredModel,
    candidate_grid,
    loss_interval,
    measured_models,
    speedup_interval,
)
from autoprumux.hardware import calibrated_speeds_of
from autoprumux.records import Candidate, Measurement, StudyRecord
from autoprumux.report.page import theme
from autoprumux.surrogates.performance import (
    PerformanceModel,
    PerformancePrediction,
    telling_failures,
)

MAX_LABELLED = 12
"""Columns and rows up to which every cell shows its number."""
MAX_CELLS, MAX_WIDTHS = 600, 40
"""Of a larger grid, sparsities and widths in equal steps are shown."""


_Value = TypeVar("_Value", int, float)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One pair (N, s): measured, or predicted."""

    candidate: Candidate
    accuracy: float
    loss: float
    """Accuracy loss, a fraction."""
    loss_interval: Interval
    """95 %; of a measured model, of the difference to the baseline, as `query` prints it."""
    speedup: float
    speedup_interval: Interval
    is_measured: bool
    is_failed: bool
    is_extrapolated: bool
    """True if no measured points surround it."""

    @property
    def loss_reach(self) -> float:
        """Half the width of the interval of the accuracy loss, in points."""
        return 50.0 * (self.loss_interval.high - self.loss_interval.low)

    @property
    def speedup_reach(self) -> float:
        """By how many percent the interval goes above the speed-up."""
        return 100.0 * (self.speedup_interval.high / self.speedup - 1.0)


@dataclass(frozen=True, kw_only=True)
class SurfaceInfo:
    """All pairs of a width and a sparsity; see `MAX_CELLS`."""

    widths: tuple[int, ...]
    sparsities: tuple[float, ...]
    num_cells: int
    """Of the grid, shown or not."""
    cells: tuple[tuple[Cell, ...], ...]
    """A row per width, a column per sparsity."""


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One quantity over (N, s)."""

    key: str
    title: str
    caption: str
    value: Callable[[Cell], float]
    form: str
    """Python's format of a number."""
    colours: list[str]
    scale: Callable[[float], float] = float
    """What the colours follow."""
    tells_all: bool = True
    """False: the text under the pointer names the cell only; the map beside it tells the rest."""


def surface_info(study: StudyRecord, baseline: Measurement) -> SurfaceInfo:
    """Predict the study's grid and whatever was measured beside it.

    Raises:
        StorageError: If the stored configuration of `study` names no widths or sparsities.
    """
    scored = set(study.best_settings.values())
    compared = measured_models(study, baseline)
    models = {m.candidate.cell: m for m in compared if m.candidate in scored}
    known = {*candidate_grid(study), *models}
    widths = tuple(sorted({c.num_instances for c in known}))
    sparsities = tuple(sorted({c.sparsity for c in known}))
    num_cells = len(widths) * len(sparsities)
    if num_cells > MAX_CELLS:
        widths = _spread(widths, MAX_WIDTHS)
        sparsities = _spread(sparsities, MAX_CELLS // len(widths))
    grid = [Candidate(n, s) for n in widths for s in sparsities]
    failed = {t.candidate.cell for t in study.trials if t.failure is not None} - models.keys()
    performance = PerformanceModel.from_measured(
        study.by_cell,
        telling_failures(study),
        candidate_grid(study),
        stopped=study.stopped_cells,
        speeds=calibrated_speeds_of(study),
    )
    cells = {
        p.candidate: _cell(p, models.get(p.candidate), is_failed=p.candidate in failed)
        for p in performance.predict(grid)
    }
    return SurfaceInfo(
        widths=widths,
        sparsities=sparsities,
        num_cells=num_cells,
        cells=tuple(tuple(cells[Candidate(n, s)] for s in sparsities) for n in widths),
    )


def draw_surfaces(info: SurfaceInfo) -> list[theme.Figure]:
    """Draw four maps: both targets and the doubt about each."""
    return [_draw(info, panel) for panel in _PANELS]


_DOT = {
    "symbol": "circle",
    "size": 7,
    "color": "white",
    "line": {"color": theme.ON_SCALE, "width": 1.2},
}
_CROSS = {"symbol": "x", "size": 8, "color": theme.ON_SCALE}

_MARKS = "A dot marks what is measured, a cross what failed."

_PANELS = (
    _Panel(
        key="accuracy",
        title="Accuracy, %",
        caption=f"Measured, or expected. {_MARKS}",
        value=lambda cell: 100.0 * cell.accuracy,
        form=".1f",
        colours=theme.VALUE_SCALE,
    ),
    _Panel(
        key="accuracy-doubt",
        title="Accuracy: uncertainty, ± points",
        caption="Half the 95 % interval of the accuracy loss.",
        value=lambda cell: cell.loss_reach,
        form=".1f",
        colours=theme.DOUBT_SCALE,
        tells_all=False,
    ),
    _Panel(
        key="speedup",
        title="Speed-up, times the baseline",
        caption="Measured, or expected; the colours follow its logarithm.",
        value=lambda cell: cell.speedup,
        form=".3g",
        colours=theme.VALUE_SCALE,
        scale=math.log,
    ),
    _Panel(
        key="speedup-doubt",
        title="Speed-up: uncertainty, + %",
        caption="How far the 95 % interval reaches above the expected speed-up.",
        value=lambda cell: cell.speedup_reach,
        form=".3g",
        colours=theme.DOUBT_SCALE,
        tells_all=False,
    ),
)


def _spread(values: tuple[_Value, ...], most: int) -> tuple[_Value, ...]:
    """Yield at most so many of the values, in equal steps."""
    return values[:: math.ceil(len(values) / most)]


def _cell(
    prediction: PerformancePrediction, measured: MeasuredModel | None, *, is_failed: bool
) -> Cell:
    return Cell(
        candidate=prediction.candidate,
        accuracy=prediction.accuracy,
        loss=prediction.accuracy_loss,
        loss_interval=measured.interval if measured else loss_interval(prediction),
        speedup=prediction.speedup,
        speedup_interval=speedup_interval(prediction),
        is_measured=measured is not None,
        is_failed=is_failed,
        is_extrapolated=prediction.is_extrapolated,
    )


def _draw(info: SurfaceInfo, panel: _Panel) -> theme.Figure:
    drawn = theme.chart(
        [
            _heatmap(info, panel),
            _marks(info, lambda cell: cell.is_measured, "measured", _DOT),
            _marks(info, lambda cell: cell.is_failed, "failed", _CROSS),
        ],
        x={"title": "sparsity s", **_ticks([f"{s:g}" for s in info.sparsities])},
        y={"title": "width N", **_ticks([str(n) for n in info.widths])},
        height=min(130 + 46 * len(info.widths), 560),
        showlegend=False,
    )
    caption = f"{panel.caption}{_left_out(info)}"
    return theme.Figure(key=panel.key, title=panel.title, caption=caption, chart=drawn)


def _left_out(info: SurfaceInfo) -> str:
    num_shown = len(info.widths) * len(info.sparsities)
    if num_shown == info.num_cells:
        return ""
    return f" Of the grid's {info.num_cells} pairs {num_shown}, in equal steps, are shown."


def _heatmap(info: SurfaceInfo, panel: _Panel) -> go.Heatmap:
    values = [[panel.value(cell) for cell in row] for row in info.cells]
    is_labelled = max(len(info.widths), len(info.sparsities)) <= MAX_LABELLED
    return go.Heatmap(
        z=[[round(panel.scale(value), 4) for value in row] for row in values],
        text=[[format(v, panel.form) for v in row] for row in values] if is_labelled else None,
        hovertext=[[_hover(cell, panel) for cell in row] for row in info.cells],
        texttemplate="%{text}" if is_labelled else None,
        hovertemplate="%{hovertext}<extra></extra>",
        colorscale=panel.colours,
        textfont={"color": theme.ON_SCALE},
        showscale=False,
        xgap=1,
        ygap=1,
    )


def _marks(
    info: SurfaceInfo, is_marked: Callable[[Cell], bool], name: str, looks: dict[str, object]
) -> go.Scatter:
    """Marks in a corner of their cells, where they hide no number."""
    places = [
        (column - 0.36, row + 0.3)
        for row, cells in enumerate(info.cells)
        for column, cell in enumerate(cells)
        if is_marked(cell)
    ]
    return go.Scatter(
        name=name,
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="markers",
        marker=looks,
        hoverinfo="skip",
    )


def _ticks(labels: Sequence[str]) -> dict[str, object]:
    """Yield an axis of equally wide cells; of many labels every second, third, ... is left."""
    step = 1 + (len(labels) - 1) // MAX_LABELLED
    return {
        "tickvals": list(range(0, len(labels), step)),
        "ticktext": list(labels[::step]),
        "showgrid": False,
    }


def _hover(cell: Cell, panel: _Panel) -> str:
    if not panel.tells_all:
        return f"<b>{cell.candidate}</b> {panel.value(cell):{panel.form}}"
    status = "measured" if cell.is_measured else "failed" if cell.is_failed else "predicted"
    if cell.is_extrapolated:
        status += ", no measured points around it"
    losses, speedups = cell.loss_interval, cell.speedup_interval
    return (
        f"<b>{cell.candidate}</b> {status}<br>accuracy {100 * cell.accuracy:.2f} %, "
        f"loss {100 * cell.loss:.2f} points ({100 * losses.low:.2f} to {100 * losses.high:.2f})"
        f"<br>speed-up {cell.speedup:.2f}x ({speedups.low:.2f} to {speedups.high:.2f})"
    )
