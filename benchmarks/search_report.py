"""What `search.py` found, in tables and plots.

A table may have been searched with several seeds; all of its searches count, each with the same
weight. Intervals are 95 % bootstrap intervals over tables, as searches of one table are no
independent observations. Tests are one-sided and compare the mean trials of each table.
"""

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from autoprumux.search.replay_summary import REGRET_AFTER

OURS = "performance_model"
TARGETS = {4: "median at most 4", 7: "90th percentile at most 7"}
NOT_DRAWN = ("equal_costs", "unrelated")
"""Variants of ours that hardly differ in a plot."""
NUM_RESAMPLES = 2000

Case = Mapping[str, Any]
Array = NDArray[np.float64]


def print_tables(options: argparse.Namespace) -> None:
    """Print what is stored of a family, and write it as JSON."""
    cases = _stored(options)
    searched = [case for case in cases if "num_until_best" in case["searches"][0]]
    summary = {
        "family": options.family,
        "searches": _search_rows(searched),
        "regret": _regret_rows(searched),
        "hits": _hit_rows(cases),
        "coverage": _coverage_rows(cases),
        "platform": platform.platform(),
        "versions": {p: version(p) for p in ("autoprumux", "numpy", "optuna")},
    }
    path = options.out / f"{options.family}.json"
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        for part in ("searches", "regret", "hits", "coverage"):
            if summary[part]:
                print(pd.DataFrame(summary[part]).round(3).to_string(index=False), "\n")


def save_plot(options: argparse.Namespace) -> None:
    """Draw the share of searches that measured the best model, by trials; one line a sampler."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "autoprumux", "svg.fonttype": "none"})
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    cases = [c for c in _stored(options) if "num_until_best" in c["searches"][0]]
    most = 24
    trials = np.arange(1, most + 1)
    for name in (name for name in _samplers(cases) if name not in NOT_DRAWN):
        own = [case for case in cases if case["sampler"] == name]
        shares = np.array([[_share_within(case, number) for number in trials] for case in own])
        low, high = _interval(shares)
        label = f"{name.replace('_', ' ')} ({len(own)})"
        (line,) = axes.step(trials, 100 * shares.mean(axis=0), where="post", label=label)
        axes.fill_between(
            trials, 100 * low, 100 * high, step="post", alpha=0.15, color=line.get_color()
        )
    axes.set(xlabel="trials, the baseline included", ylabel="searches with the best measured, %")
    axes.set(ylim=(0, 100), xlim=(1, most))
    axes.legend(
        title="sampler (tables)", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1)
    )
    figure.savefig(options.image, metadata={"Date": None})


def _stored(options: argparse.Namespace) -> list[Case]:
    files = sorted(options.out.glob(f"{options.family}-[0-9]*-*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _samplers(cases: Sequence[Case]) -> list[str]:
    return sorted({case["sampler"] for case in cases}, key=lambda name: (name != OURS, name))


def _firsts(case: Case) -> list[float]:
    """Yield the trials until the best; one more than there are where it was never measured."""
    never = case["num_candidates"] + 1
    return [search["num_until_best"] or never for search in case["searches"]]


def _share_within(case: Case, number: int) -> float:
    return float(np.mean([first <= number for first in _firsts(case)]))


def _search_rows(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Yield a row per sampler.

    `p` is that of a signed-rank test (Wilcoxon) that ours needs fewer trials; in the row of
    `related`, that it needs fewer than without other tasks.
    """
    means = {(case["sampler"], case["index"]): np.mean(_firsts(case)) for case in cases}
    rows = []
    for name in _samplers(cases):
        own = [case for case in cases if case["sampler"] == name]
        firsts = [_firsts(case) for case in own]
        searches = [search for case in own for search in case["searches"]]
        fewer, more = _compared(name, _samplers(cases))
        both = [
            (means[fewer, index], means[more, index])
            for index in (case["index"] for case in own)
            if {(fewer, index), (more, index)} <= means.keys()
        ]
        rows.append(
            {
                "sampler": name,
                "tables": len(own),
                "searches": len(searches),
                **_percentiles(firsts),
                **{
                    f"<= {number}, %": _share_text([_share_within(c, number) for c in own])
                    for number in TARGETS
                },
                "repeated": float(np.mean([search["num_repeated"] for search in searches])),
                "stop": float(np.mean([search["num_until_stop"] for search in searches])),
                "p": _p_value(both) if fewer != more else "",
            }
        )
    return rows


def _compared(name: str, names: Sequence[str]) -> tuple[str, str]:
    """Yield who is expected to need fewer trials, and who more."""
    if name == "related":
        return name, "unrelated" if "unrelated" in names else OURS
    return (name, name) if name == "unrelated" else (OURS, name)


def _percentiles(firsts: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Yield median, mean and 90th percentile over searches, with intervals over tables."""
    rng = np.random.default_rng(0)
    everything = np.concatenate(firsts)
    draws = []
    for _ in range(NUM_RESAMPLES):
        chosen = np.concatenate([firsts[i] for i in rng.integers(len(firsts), size=len(firsts))])
        draws.append([np.median(chosen), chosen.mean(), np.percentile(chosen, 90)])
    lows, highs = np.percentile(draws, [2.5, 97.5], axis=0)
    values = (np.median(everything), everything.mean(), np.percentile(everything, 90))
    return {
        name: f"{value:.3g} ({low:.3g}-{high:.3g})"
        for name, value, low, high in zip(
            ("median", "mean", "90 %"), values, lows, highs, strict=True
        )
    }


def _share_text(shares: Sequence[float]) -> str:
    values = 100 * np.asarray(shares)
    (low,), (high,) = _interval(values[:, None])
    return f"{values.mean():.0f} ({low:.0f}-{high:.0f})"


def _interval(values: Array) -> tuple[Array, Array]:
    """Yield the ends of the 95 % bootstrap interval of the mean of `(K, M)` over `K` tables."""
    rng = np.random.default_rng(0)
    rows = rng.integers(len(values), size=(NUM_RESAMPLES, len(values)))
    low, high = np.percentile(values[rows].mean(axis=1), [2.5, 97.5], axis=0)
    return low, high


def _p_value(pairs: Sequence[tuple[float, float]]) -> str:
    differences = np.array([mine - theirs for mine, theirs in pairs])
    if not np.any(differences):
        return "1"
    test = wilcoxon(differences, alternative="less", zero_method="pratt", method="asymptotic")
    return f"{test.pvalue:.2g}"


def _regret_rows(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Yield the share of the best speed-up that is missed after so many trials, in percent."""
    rows = []
    for name in _samplers(cases):
        own = [case for case in cases if case["sampler"] == name]
        row: dict[str, Any] = {"regret, %": name}
        for number in REGRET_AFTER:
            row[f"after {number}"] = _regret_text(
                [[s["regret_after"][str(number)] for s in case["searches"]] for case in own]
            )
        row["at stop"] = _regret_text(
            [[search["regret_at_stop"] for search in case["searches"]] for case in own]
        )
        rows.append(row)
    return rows


def _regret_text(regrets: Sequence[Sequence[float]]) -> str:
    values = 100 * np.array([np.mean(of_table) for of_table in regrets])
    (low,), (high,) = _interval(values[:, None])
    return f"{values.mean():.1f} ({low:.1f}-{high:.1f})"


def _hit_rows(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Yield how often the best of a budget is among three, by how those are ranked."""
    rows = []
    for name, key in (("by chance (ours)", "hit_rate"), ("the paper's", "paper_hit_rate")):
        own = [case for case in cases if key in case["searches"][0]]
        if own:
            rates = np.array([np.mean([s[key] for s in case["searches"]]) for case in own])
            rows.append(
                {
                    "top three of 21 budgets": name,
                    "tables": len(own),
                    "mean, %": _share_text(rates),
                    "tables with 95 %": float(100 * np.mean(rates >= 0.95)),
                    "worst table, %": float(100 * rates.min()),
                }
            )
    return rows


def _coverage_rows(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Yield the share of values inside the intervals, over all values of all tables."""
    checks = [check for c in cases for s in c["searches"] for check in s.get("coverage", ())]
    rows = []
    for target, number in dict.fromkeys((c["target"], c["trials"]) for c in checks):
        own = [c for c in checks if (c["target"], c["trials"]) == (target, number)]
        counts = [check["num"] for check in own]
        shares = {
            f"{100 * float(level):.0f} %": _average([c["within"][level] for c in own], counts)
            for level in own[0]["within"]
        }
        rows.append(
            {
                "target": target,
                "trials": number,
                "values": sum(counts),
                **shares,
                "90 % width": _average([c["width"] for c in own], counts),
                "median error": _average([c["error"] for c in own], counts),
            }
        )
    return sorted(rows, key=lambda row: (row["target"], row["trials"]))


def _average(values: Sequence[float], counts: Sequence[int]) -> float:
    return float(np.average(values, weights=counts))
