"""What `search.py` found, in tables.

A table may have been searched with several seeds; all of its searches count, each with the same
weight. Intervals are 95 % bootstrap intervals over tables, as searches of one table are no
independent observations. Tests are one-sided and compare the means of each table over the seeds
that both played.
"""

import argparse
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from common import write_record

from autoprumux.search.replay_statistics import bootstrap, interval_of_means, signed_rank_p
from autoprumux.search.replay_summary import REGRET_AFTER

OURS = "performance_model"
ORACLE = "oracle"
TARGETS = {4: "median at most 4", 7: "90th percentile at most 7"}
RANKINGS = {
    "hit_rate": "ours, 12 trials",
    "calibrated_hit_rate": "ours, 12 trials and a calibration",
    "paper_hit_rate": "the paper's, 24 trials, own speeds",
    "paper_table_hit_rate": "the paper's, 24 trials, another task's speeds",
    "oracle_hit_rate": "oracle, our 12 trials",
}
AIM = 0.95
"""Share of the budgets whose best model should be among three, on every table."""
PRIORS = {
    "coverage": "none",
    "coverage_calibrated": "calibration",
    "coverage_related": "other tasks",
}

Case = Mapping[str, Any]
Row = dict[str, Any]


def print_tables(options: argparse.Namespace) -> None:
    """Print what is stored of a family, and write it as JSON if a file is named."""
    cases = stored(options)
    searched = searches_of(cases)
    found = {
        "searches": _search_rows(searched),
        "regret": _regret_rows(searched),
        "hits": _hit_rows(cases),
        "coverage": coverage_rows(cases),
    }
    for rows in found.values():
        if rows:
            print(_markdown(rows), "\n")
    if options.record:
        commits = sorted({search["commit"] for case in cases for search in case["searches"]})
        versions = {name: version(name) for name in ("autoprumux", "numpy", "optuna")}
        environment = {"platform": platform.platform(), "versions": versions}
        values = {"family": options.family, "searched_at": commits, **found}
        write_record(options.record, environment, values)


def stored(options: argparse.Namespace) -> list[Case]:
    """Yield what is stored of a family: a case per table and sampler."""
    files = sorted(options.out.glob(f"{options.family}-[0-9]*-*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def searches_of(cases: Iterable[Case]) -> list[Case]:
    """Yield the cases that tell when the best was measured."""
    return [case for case in cases if "num_until_best" in case["searches"][0]]


def samplers_of(cases: Sequence[Case]) -> list[str]:
    """Yield the samplers, ours first."""
    return sorted({case["sampler"] for case in cases}, key=lambda name: (name != OURS, name))


def firsts_of(case: Case) -> dict[int, float]:
    """Yield, by seed, the trials until the best; one more than there are if never measured."""
    never = case["num_candidates"] + 1
    return {search["seed"]: search["num_until_best"] or never for search in case["searches"]}


def share_within(case: Case, number: int) -> float:
    """Yield the share of searches that measured the best in at most so many trials."""
    return float(np.mean([first <= number for first in firsts_of(case).values()]))


def _markdown(rows: Sequence[Row]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([_cell(row[name]) for name in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _search_rows(cases: Sequence[Case]) -> list[Row]:
    """Yield a row per sampler.

    `p` is that of a signed-rank test (Wilcoxon) that ours needs fewer trials; in the row of
    `related`, that it needs fewer than without other tasks, and of those with a calibration,
    than without it.
    """
    names = samplers_of(cases)
    rows = []
    for name in names:
        own = [case for case in cases if case["sampler"] == name]
        firsts = [list(firsts_of(case).values()) for case in own]
        searches = [search for case in own for search in case["searches"]]
        rows.append(
            {
                "sampler": f"`{name}`",
                "tables (searches)": f"{len(own)} ({len(searches)})",
                **_percentiles(firsts),
                **{
                    f"within {number}, %": _share_text([share_within(c, number) for c in own])
                    for number in TARGETS
                },
                "trials when it stops": float(np.mean([s["num_until_stop"] for s in searches])),
                "repeated": float(np.mean([search["num_repeated"] for search in searches])),
                "p": _p_value(cases, *_compared(name, names)),
            }
        )
    return rows


def _compared(name: str, names: Sequence[str]) -> tuple[str, str]:
    """Yield who is expected to need fewer trials, and who more; the same if that is not asked."""
    if name == "related":
        return name, "unrelated" if "unrelated" in names else OURS
    if name in ("calibrated", "related_calibrated"):
        return name, OURS if name == "calibrated" else "related"
    return (name, name) if name in ("unrelated", ORACLE) else (OURS, name)


def _p_value(cases: Sequence[Case], fewer: str, more: str) -> str:
    if fewer == more:
        return ""
    firsts = {(case["sampler"], case["index"]): firsts_of(case) for case in cases}
    differences = []
    for (name, index), theirs in firsts.items():
        mine = firsts.get((fewer, index), {})
        shared = theirs.keys() & mine.keys()
        if name == more and shared:
            differences.append(float(np.mean([mine[seed] - theirs[seed] for seed in shared])))
    return f"{signed_rank_p(differences):.2g}" if differences else ""


def _percentiles(firsts: Sequence[Sequence[float]]) -> Row:
    """Yield median, mean and 90th percentile over searches, with intervals over tables."""

    def statistics(values: np.ndarray) -> tuple[float, float, float]:
        return np.median(values), values.mean(), np.percentile(values, 90)

    ends = bootstrap(firsts, statistics)
    values = statistics(np.concatenate([np.asarray(own, dtype=float) for own in firsts]))
    return {
        name: f"{value:.3g} ({low:.3g}-{high:.3g})"
        for name, value, (low, high) in zip(("median", "mean", "90 %"), values, ends, strict=True)
    }


def _share_text(shares: Sequence[float], digits: int = 0) -> str:
    values = 100 * np.asarray(shares)
    (low,), (high,) = interval_of_means(values[:, None])
    return f"{values.mean():.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _regret_rows(cases: Sequence[Case]) -> list[Row]:
    """Yield the share of the best speed-up that is missed after so many trials, in percent."""
    rows = []
    for name in samplers_of(cases):
        own = [case["searches"] for case in cases if case["sampler"] == name]
        after = {
            f"after {number}, %": _share_text(
                [np.mean([s["regret_after"][str(number)] for s in searches]) for searches in own],
                digits=1,
            )
            for number in REGRET_AFTER
        }
        stop = [np.mean([s["regret_at_stop"] for s in searches]) for searches in own]
        rows.append(
            {"regret of": f"`{name}`", **after, "when it stops, %": _share_text(stop, digits=1)}
        )
    return rows


def _hit_rows(cases: Sequence[Case]) -> list[Row]:
    """Yield how often the best of a budget is among three, by how those are ranked.

    `p` is that of a signed-rank test, paired by table, that ours holds it more often.
    """
    own = [case["searches"] for case in cases if case["sampler"] == "hits"]
    if not own:
        return []
    rates = {
        key: np.array([np.mean([s[key] for s in found]) for found in own])
        for key in RANKINGS
        if key in own[0][0]
    }
    calibrated = [case["searches"] for case in cases if case["sampler"] == "hits_calibrated"]
    if calibrated:
        found = [np.mean([search["hit_rate"] for search in searches]) for searches in calibrated]
        rates["calibrated_hit_rate"] = np.array(found)
    is_possible = rates["oracle_hit_rate"] >= AIM
    return [
        {
            "top three of 21 budgets": name,
            "tables (searches)": f"{len(own)} ({sum(map(len, own))})",
            "best among them, %": _share_text(rates[key]),
            f"tables with {AIM:.0%}": f"{np.mean(rates[key] >= AIM):.0%}",
            f"of those where the oracle has {AIM:.0%}": (
                f"{np.mean(rates[key][is_possible] >= AIM):.0%}" if is_possible.any() else ""
            ),
            "worst table, %": float(100 * rates[key].min()),
            "p": f"{signed_rank_p(rates[key] - rates['hit_rate']):.2g}" if "paper" in key else "",
        }
        for key, name in RANKINGS.items()
        if key in rates
    ]


def coverage_rows(cases: Sequence[Case]) -> list[Row]:
    """Yield the share of values inside the intervals, over all values of all tables."""
    checks = [
        {"prior": PRIORS[case["sampler"]], **check}
        for case in cases
        for search in case["searches"]
        for check in search.get("coverage", ())
    ]
    rows = []
    for key in dict.fromkeys((c["prior"], c["target"], c["trials"]) for c in checks):
        own = [c for c in checks if (c["prior"], c["target"], c["trials"]) == key]
        counts = [check["num"] for check in own]
        shares = {
            f"{100 * float(level):.0f} %": _average([c["within"][level] for c in own], counts)
            for level in own[0]["within"]
        }
        rows.append(
            {
                **dict(zip(("prior", "target", "trials"), key, strict=True)),
                "values": sum(counts),
                **shares,
                "90 % width": _average([c["width"] for c in own], counts),
                "median error": _average([c["error"] for c in own], counts),
            }
        )
    return sorted(rows, key=lambda row: (row["prior"], row["target"], row["trials"]))


def _average(values: Sequence[float], counts: Sequence[int]) -> float:
    return float(np.average(values, weights=counts))
