"""What `search.py` found, in three plots: trials until the best, regret, and calibration."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from search_report import (
    Case,
    coverage_rows,
    samplers_of,
    searches_of,
    share_within,
    stored,
)

from autoprumux.search.replay_statistics import interval_of_means
from autoprumux.search.replay_summary import REGRET_AFTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_DRAWN = ("equal_costs", "unrelated")
"""Variants of ours that hardly differ in a plot."""
MOST_TRIALS = 24
TARGETS = {"loss": "accuracy losses", "speedup": "speed-ups"}


def save_plots(options: argparse.Namespace) -> None:
    """Draw the file that is asked for, and beside it `-regret` and `-calibration`."""
    import matplotlib as mpl

    mpl.rcParams.update({"svg.hashsalt": "autoprumux", "svg.fonttype": "none"})
    cases = stored(options)
    searched = [c for c in searches_of(cases) if c["sampler"] not in NOT_DRAWN]
    if searched:
        _save(_draw_trials(searched), options.image)
        _save(_draw_regret(searched), _beside(options.image, "regret"))
    rows = coverage_rows(cases)
    if rows:
        _save(_draw_calibration(rows), _beside(options.image, "calibration"))


def _beside(image: Path, name: str) -> Path:
    return image.with_name(f"{image.stem}-{name}{image.suffix}")


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


def _draw_trials(cases: Sequence[Case]) -> "Figure":
    """Draw the share of searches that measured the best model, by trials."""
    numbers = np.arange(1, MOST_TRIALS + 1)
    figure, axes = _figure()
    _draw_lines(
        axes,
        cases,
        numbers,
        lambda case: [100 * share_within(case, number) for number in numbers],
        is_stepped=True,
    )
    axes.set(xlabel="trials, the baseline included", ylabel="searches with the best measured, %")
    axes.set(ylim=(0, 100), xlim=(1, MOST_TRIALS))
    return figure


def _draw_regret(cases: Sequence[Case]) -> "Figure":
    """Draw the share of the best speed-up that is missed, by trials."""
    figure, axes = _figure()
    _draw_lines(axes, cases, np.array(REGRET_AFTER), _regrets)
    axes.set(xlabel="trials, the baseline included", ylabel="regret, % of the best speed-up")
    axes.set(ylim=(0, None), xticks=REGRET_AFTER)
    return figure


def _regrets(case: Case) -> list[float]:
    return [
        100 * float(np.mean([search["regret_after"][str(number)] for search in case["searches"]]))
        for number in REGRET_AFTER
    ]


def _draw_calibration(rows: Sequence[dict[str, Any]]) -> "Figure":
    """Draw the share of values inside intervals, by trials, beside what it should be."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    colors: dict[str, str] = {}
    for axes, (target, title) in zip(panels, TARGETS.items(), strict=True):
        for prior in dict.fromkeys(row["prior"] for row in rows):
            own = [row for row in rows if (row["target"], row["prior"]) == (target, prior)]
            for place, level in enumerate(("50 %", "80 %", "90 %")):
                color = colors.setdefault(level, f"C{place}")
                axes.plot(
                    [row["trials"] for row in own],
                    [100 * row[level] for row in own],
                    color=color,
                    linestyle="-" if prior == "none" else "--",
                    label=f"{level}, prior: {prior}",
                )
                axes.axhline(float(level.split()[0]), color=color, linewidth=0.6, linestyle=":")
        axes.set(title=title, xlabel="measured trials", ylim=(0, 100))
    panels[0].set(ylabel="values inside the interval, %")
    panels[1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _figure() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    return figure, figure.add_subplot()


def _draw_lines(
    axes: "Axes",
    cases: Sequence[Case],
    places: np.ndarray,
    values_of: Callable[[Case], list[float]],
    *,
    is_stepped: bool = False,
) -> None:
    """Draw a line a sampler, with its 95 % interval over tables."""
    style = "steps-post" if is_stepped else "default"
    for name in samplers_of(cases):
        own = np.array([values_of(case) for case in cases if case["sampler"] == name])
        low, high = interval_of_means(own)
        label = f"{name.replace('_', ' ')} ({len(own)})"
        (line,) = axes.plot(places, own.mean(axis=0), drawstyle=style, label=label)
        axes.fill_between(
            places,
            low,
            high,
            step="post" if is_stepped else None,
            alpha=0.15,
            color=line.get_color(),
        )
    axes.legend(
        title="sampler (tables)", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1)
    )
