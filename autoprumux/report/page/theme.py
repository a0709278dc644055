"""Looks shared by all figures of the page; colours are names that its style sheet defines.

The page's script replaces each `var(--name)` by the colour of the reader's scheme, light or dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

INK, MUTED, GRID, PAPER = "var(--ink)", "var(--muted)", "var(--grid)", "var(--paper)"
PRUNED, MUXED, CHOSEN = "var(--pruned)", "var(--muxed)", "var(--chosen)"
"""Colours of N = 1, of s = 0, and of what is recommended or predicted."""
OTHERS = ("var(--other-1)", "var(--other-2)", "var(--other-3)", "var(--other-4)")
"""Colours of series without a meaning of their own."""
SYMBOLS = ("diamond", "triangle-up", "pentagon", "hexagram")
"""Marker symbols beside `OTHERS`, for readers who don't see the colours."""

VALUE_SCALE = ["#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4"]
DOUBT_SCALE = ["#fff5eb", "#fee6ce", "#fdd0a2", "#fdae6b", "#fd8d3c"]
"""Colours of maps (ColorBrewer's YlGnBu and Oranges): light ones only, so that dark numbers can be
read on all of them, in both schemes."""
ON_SCALE = "#111111"

_COARSE_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0, 200.0, 500.0)
_FINE_TICKS = (
    0.2,
    0.5,
    0.7,
    0.8,
    0.9,
    1.0,
    1.2,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    *_COARSE_TICKS[7:],
)
_WIDE_RATIO = 6.0
"""Largest over smallest speed-up from which the coarse ticks are enough."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawn figure with what is said about it."""

    key: str
    """Identifier in the page."""
    title: str
    caption: str
    chart: go.Figure

    @property
    def json(self) -> Markup:
        """Plotly's JSON, in which nothing can end the script element that holds it."""
        return Markup(self.chart.to_json())

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.chart.layout.height)


def chart(
    traces: list[Any], *, x: dict[str, Any], y: dict[str, Any], height: int = 420, **layout: Any
) -> go.Figure:
    """Yield a figure in the page's looks.

    Args:
        traces: What is drawn.
        x: Horizontal axis, as plotly's `xaxis`.
        y: Vertical axis.
        height: Pixels; the width is the reader's.
        **layout: Further entries of plotly's layout.
    """
    font = {"family": "system-ui, sans-serif", "size": 13, "color": INK}
    legend = {
        "orientation": "h",
        "x": 0,
        "y": 1.02,
        "yanchor": "bottom",
        "bgcolor": "rgba(0,0,0,0)",
    }
    return go.Figure(
        traces,
        {
            "template": "none",
            "height": height,
            "autosize": True,
            "margin": {"l": 56, "r": 16, "t": 16, "b": 52},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": font,
            "legend": legend,
            "hoverlabel": {"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK}},
            "modebar": {"bgcolor": PAPER, "color": MUTED, "activecolor": INK},
            "xaxis": axis(**x),
            "yaxis": axis(**y),
            **layout,
        },
    )


def axis(title: str, **settings: Any) -> dict[str, Any]:
    """Yield an axis in the page's looks."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": GRID,
        "linecolor": MUTED,
        "zeroline": False,
        "automargin": True,
        **settings,
    }


def speedup_axis(title: str, speedups: Sequence[float]) -> dict[str, Any]:
    """Yield a logarithmic axis for these speed-ups."""
    ticks = speedup_ticks(speedups)
    text = [f"{tick:g}x" for tick in ticks]
    return {"title": title, "type": "log", "tickvals": ticks, "ticktext": text}


def speedup_ticks(speedups: Sequence[float]) -> list[float]:
    """Yield the ticks of a logarithmic axis for these speed-ups."""
    is_wide = max(speedups) >= _WIDE_RATIO * min(speedups)
    return list(_COARSE_TICKS if is_wide else _FINE_TICKS)


def short(value: float) -> float:
    """Yield a number with the digits that a reader can see, which keeps the page small."""
    return float(f"{value:.7g}")


def percent(fraction: float) -> float:
    """Yield a fraction in percent, or percentage points, without the noise of binary numbers."""
    return round(100.0 * fraction, 4)
