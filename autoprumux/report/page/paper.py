"""The measured front as a picture for a paper, drawn without a browser."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoprumux.report.page.front import (
    LABEL_WIDTH,
    SPEEDUP_TITLE,
    BudgetLine,
    FrontInfo,
    Series,
    budget_lines,
    series_of,
)
from autoprumux.report.page.theme import INK, MUXED, OTHERS, PRUNED, speedup_ticks

WIDTH_IN, HEIGHT_IN, DOTS_PER_INCH = 5.5, 3.4, 300
"""A text-wide figure of a one-column paper; 1650 x 1020 pixels."""

_COLOURS = {
    INK: "#000000",
    PRUNED: "#D55E00",
    MUXED: "#0072B2",
    **dict(zip(OTHERS, ("#009E73", "#AA4499", "#B37700", "#56B4E9"), strict=True)),
}
"""Okabe and Ito's, which colour-blind readers can tell apart; two darkened for thin lines."""
_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "pentagon": "p",
    "hexagram": "h",
    "star": "*",
}


def write_front(info: FrontInfo, path: Path) -> None:
    """Write the front as PNG.

    Raises:
        OSError: If the file cannot be written.
    """
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, info)
    figure.savefig(path, format="png")


def _draw(axes: Axes, info: FrontInfo) -> None:
    axes.step(
        [p.speedup for p in info.front],
        [100 * p.accuracy for p in info.front],
        where="pre",
        color="0.82",
        linewidth=4,
        solid_capstyle="butt",
        label="measured front",
        zorder=1,
    )
    for series in series_of(info):
        _errorbar(axes, series)
    for line in budget_lines(info):
        _budget_line(axes, line)
    _finish(axes, info)


def _errorbar(axes: Axes, series: Series) -> None:
    points = series.points
    axes.errorbar(
        [p.speedup for p in points],
        [100 * p.accuracy for p in points],
        xerr=[
            [max(p.speedup - p.speedup_q1, 0.0) for p in points],
            [max(p.speedup_q3 - p.speedup, 0.0) for p in points],
        ],
        yerr=[
            [max(100 * (p.accuracy - p.accuracy_low), 0.0) for p in points],
            [max(100 * (p.accuracy_high - p.accuracy), 0.0) for p in points],
        ],
        color=_COLOURS[series.colour],
        marker=_MARKERS[series.symbol],
        markersize=9 if series.symbol == "star" else 4.5,
        linestyle=":" if series.is_line else "none",
        linewidth=1,
        elinewidth=0.7,
        capsize=1.5,
        label=series.name,
        zorder=2,
    )


def _budget_line(axes: Axes, line: BudgetLine) -> None:
    axes.axhline(line.height, color="0.45", linewidth=0.7, linestyle="--", zorder=0.8)
    axes.annotate(
        line.label,
        (1.0 - 0.5 * LABEL_WIDTH * line.place, line.height),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 1.5),
        textcoords="offset points",
        ha="right",
        fontsize=6.5,
        color="0.35",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _finish(axes: Axes, info: FrontInfo) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    speedups = [1.0, 2.0, *(p.speedup for p in info.points)]
    ticks = speedup_ticks(speedups)
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.set_xlim(0.9 * min(speedups), 1.15 * max(speedups))
    axes.set_xlabel(SPEEDUP_TITLE)
    axes.set_ylabel("accuracy, %")
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    # slow and inaccurate at once is no model worth a point
    axes.legend(loc="lower left", fontsize=7, framealpha=0.9, borderpad=0.4, handlelength=1.8)
