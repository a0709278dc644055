"""By which power of its predicted minutes should the score of a candidate be divided?

    python benchmarks/cost_power.py --family recorded --thin 3 --out cost-power.json

searches tables of `search.py`, the recorded ones with a calibration, with several powers. It
counts the trials and the minutes until the best model within the budget is measured, and those of
the whole search. With 0 a trial costs the same whatever it trains, with 1 its predicted minutes
count in full. Minutes are compared search by search with those of the first power: the geometric
mean of the ratios. `--starts 8` makes what all sparsities of a width share eight times as dear.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from statistics import fmean, median
from unittest.mock import patch

import numpy as np
from common import write_record
from search import MAX_TRIALS, STOP_CHANCE, seeds_of
from search_tables import FAMILIES, NUM_SEEDS, NUM_TABLES, RECORDED, Table, make_table, num_tables

from autoprumux.config import SearchConfig
from autoprumux.evaluators.recording import RecordedTrial
from autoprumux.search import acquisition
from autoprumux.search.cost import START_PHASES
from autoprumux.search.replay import replay_search
from trainers.context import resolve_device
from trainers.measure.environment import describe_environment


@dataclass(frozen=True, kw_only=True)
class Searched:
    """One search."""

    trials: int
    """Until the best was measured; the last one if it never was."""
    minutes: float
    """Of these trials."""
    trials_at_stop: int
    minutes_at_stop: float
    regret: float
    """Share of the best speed-up that is missed when the search stops."""


def main() -> None:
    """Search, print the table and write the JSON file."""
    options = _parse()
    tables = [
        _with_dearer_starts(make_table(options.family, index, seed), options.starts)
        for index in range(num_tables(options.family, options.tables))
        for seed in seeds_of(index, NUM_SEEDS, options.thin)
    ]
    found = {power: [_search(table, power) for table in tables] for power in options.powers}
    rows = [_row(power, searches, found[options.powers[0]]) for power, searches in found.items()]
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{value:g}" for value in row.values()) + " |")
    if options.out:
        asked = {"family": options.family, "starts": options.starts, "num_searches": len(tables)}
        environment = describe_environment(resolve_device("cpu"))
        write_record(options.out, environment, {**asked, "rows": rows})


def _search(table: Table, power: float) -> Searched:
    search = SearchConfig(
        budgets=(table.budget,), max_trials=MAX_TRIALS, seed=table.seed, stop_chance=STOP_CHANCE
    )
    known = table.calibrations if table.source is None else ()
    with patch.object(acquisition, "COST_POWER", power):
        replayed = replay_search(
            table.evaluator, table.space, search, "performance_model", calibrations=known
        )
    durations = (t.measurement.duration_s if t.measurement else 0.0 for t in replayed.trials)
    minutes = [seconds / 60 for seconds in accumulate(durations)]
    trials = replayed.num_until_best()[0] or len(minutes)
    return Searched(
        trials=trials,
        minutes=minutes[trials - 1],
        trials_at_stop=replayed.num_until_stop,
        minutes_at_stop=minutes[replayed.num_until_stop - 1],
        regret=replayed.regret_after(replayed.num_until_stop),
    )


def _with_dearer_starts(table: Table, factor: float) -> Table:
    """Yield the table with `factor` times the seconds of what all sparsities of a width share."""
    trials = tuple(_dearer(trial, factor) for trial in table.recording.trials)
    return replace(table, recording=replace(table.recording, trials=trials))


def _dearer(trial: RecordedTrial, factor: float) -> RecordedTrial:
    if trial.measurement is None:
        return trial
    phases = tuple(
        replace(phase, duration_s=factor * phase.duration_s)
        if phase.name in START_PHASES
        else phase
        for phase in trial.measurement.phases
    )
    more = sum(p.duration_s for p in phases) - sum(p.duration_s for p in trial.measurement.phases)
    duration_s = trial.measurement.duration_s + more
    return replace(
        trial, measurement=replace(trial.measurement, phases=phases, duration_s=duration_s)
    )


def _row(
    power: float, searches: Sequence[Searched], first: Sequence[Searched]
) -> dict[str, float]:
    trials = [s.trials for s in searches]
    until_best = _ratio([s.minutes for s in searches], [s.minutes for s in first])
    at_stop = _ratio([s.minutes_at_stop for s in searches], [s.minutes_at_stop for s in first])
    return {
        "power": power,
        "trials, mean": round(fmean(trials), 2),
        "median": median(trials),
        "90 %": float(np.quantile(trials, 0.9)),
        "within 4, %": round(100 * fmean(t <= 4 for t in trials)),
        "minutes, ratio": round(until_best, 3),
        "trials when it stops": round(fmean(s.trials_at_stop for s in searches), 2),
        "minutes when it stops, ratio": round(at_stop, 3),
        "regret, %": round(100 * fmean(s.regret for s in searches), 1),
    }


def _ratio(minutes: Sequence[float], first: Sequence[float]) -> float:
    """Geometric mean of the ratios; a search whose trials all failed took no minute."""
    pairs = [(m, f) for m, f in zip(minutes, first, strict=True) if m > 0.0 and f > 0.0]
    return math.exp(fmean(math.log(m / f) for m, f in pairs))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--family", choices=[*sorted(FAMILIES), RECORDED], default=RECORDED)
    parser.add_argument("--tables", type=int, default=NUM_TABLES, help="number of made-up tables")
    parser.add_argument("--thin", type=int, default=3, help="play every THIN-th seed of a table")
    parser.add_argument("--powers", type=float, nargs="+", default=[1.0, 0.7, 0.5, 0.3, 0.0])
    parser.add_argument(
        "--starts", type=float, default=1.0, help="factor of a new width's seconds"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
