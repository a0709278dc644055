"""The report's figures for optuna-dashboard: with a title, on white, colours spelt out."""

import re
from collections.abc import Iterator, Sequence
from importlib import resources

import plotly.graph_objects as go

from autoprumux.records import StudyRecord
from autoprumux.report.page.budgets import budget_info, draw_budgets
from autoprumux.report.page.front import draw_front, front_info
from autoprumux.report.page.theme import Figure


def study_plots(study: StudyRecord, budgets: Sequence[float]) -> Iterator[tuple[str, go.Figure]]:
    """Yield identifier and figure of what the study has: its front and its budget curve."""
    if study.measured:
        yield _shown(draw_front(front_info(study, budgets)))
    if study.baseline is not None:
        yield _shown(draw_budgets(budget_info(study, budgets)))


def _shown(figure: Figure) -> tuple[str, go.Figure]:
    chart = go.Figure(_with_colours(figure.chart.to_plotly_json(), _colours()))
    chart.update_layout(
        title={"text": figure.title, "x": 0.02, "y": 0.98, "yanchor": "top"},
        legend={"y": 1.0},
        margin={"l": 64, "r": 24, "t": 96, "b": 56},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        height=450,
    )
    return f"autoprumux-{figure.key}", chart


def _colours() -> dict[str, str]:
    """Yield the colours of the page's style sheet for a light background, by their names."""
    folder = resources.files("autoprumux.report.page") / "templates"
    style = (folder / "page.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6});", style.partition("@media")[0])
    return {f"var(--{name})": colour for name, colour in pairs}


def _with_colours(value: object, colours: dict[str, str]) -> object:
    """Yield plotly's dictionaries and lists with each `var(--name)` replaced."""
    if isinstance(value, dict):
        return {key: _with_colours(item, colours) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_colours(item, colours) for item in value]
    return colours.get(value, value) if isinstance(value, str) else value
