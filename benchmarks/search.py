"""How many trials does a search need, and do the intervals hold?

    python benchmarks/search.py run --out results --family reporting
    python benchmarks/search.py table --out results --family reporting
    python benchmarks/search.py plot --out results --family reporting --image search.svg

Families (`search_tables`): `tuning` and `reporting` are made-up tasks with additive losses, a
plateau, collapse and failures at high N and s, noise, and a latency law that no table follows
exactly; they differ in the seed alone. Constants of the package may be tuned on `tuning`, results
are told from the others. `foreign` has losses of another form, which saturate, rise in steps and
multiply. `recorded` are the recordings of the repository, each with every budget of 0, 0.5, ... 10
points that a model faster than the baseline meets.

A table may be searched with 21 seeds. Each draws the noise of all measurements anew and, of a
made-up table, has another of its budgets. `--thin 3` gives each table every third seed, starting
at another one in each table, so that all seeds and budgets still occur. What is compared has the
same tables and seeds.

`run` writes one file per table and sampler and plays only the seeds that are not there, so it may
be stopped at any time, and several may work on parts of a family (`--shard 0/4`). Samplers are
those of `autoprumux replay`, and

    related           ours, with other tasks of the same model as a prior: three made-up ones, each
                      searched with eight trials on the same device, or the other recordings
    unrelated         ours, on the same tables without them
    equal_costs       ours, where every trial costs the same, not more for a new width
    paper             the paper's 24 training cells, then the three its models predict to be best
    botorch           constrained expected improvement of Gaussian processes (extra `rivals`)
    oracle            a search that knows all but the noise of what is not measured yet
    coverage          ours, with its intervals checked after so many trials
    coverage_related  the same, with other tasks as a prior
    calibrated        ours, with a calibration of the device (`calibrations`); recorded grids alone
    related_calibrated   ours, with both
    coverage_calibrated  the intervals with a calibration
    hits_calibrated   `hits` of ours with a calibration
    hits              is the best model of a budget among three: ours after a search of 12 trials
                      for all budgets at once, the paper's after its 24, and the oracle's
"""

import argparse
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from common import commit
from search_checks import check_calibrated_hits, check_coverage, check_hits
from search_oracle import play_oracle
from search_plots import save_plots
from search_report import print_tables
from search_rivals import play_botorch, play_paper
from search_tables import (
    BASELINE,
    FAMILIES,
    NUM_SEEDS,
    NUM_TABLES,
    RECORDED,
    Table,
    has_others,
    is_first_of_task,
    make_related,
    make_table,
    num_tables,
)

from autoprumux.config import SearchConfig
from autoprumux.search.related import as_other
from autoprumux.search.replay import as_sampler, replay_search
from autoprumux.search.replay_summary import REGRET_AFTER
from autoprumux.surrogates.related import Others

MAX_TRIALS = 16
STOP_CHANCE = 0.05

TRIALS_OF_OTHERS = 8
"""Of each made-up task that is a prior of another."""

OURS = (
    "performance_model",
    "equal_costs",
    "related",
    "unrelated",
    "calibrated",
    "related_calibrated",
)
RELATED = ("related", "unrelated", "coverage_related", "related_calibrated")
"""They play on tables that have other tasks."""
CALIBRATED = ("calibrated", "related_calibrated", "coverage_calibrated", "hits_calibrated")
LEARNING = ("related", "coverage_related", "related_calibrated")
"""They are told of other tasks."""


def play(
    table: Table, seed: int, max_trials: int, *, sampler: str, others: Others | None = None
) -> dict[str, Any]:
    """Yield what a search with a sampler of `autoprumux replay` did."""
    is_ours = sampler in OURS
    if sampler == "equal_costs":
        table = table.with_equal_costs()
    search = SearchConfig(
        budgets=(table.budget,),
        max_trials=max_trials,
        seed=seed,
        stop_chance=STOP_CHANCE * is_ours,
    )
    order = as_sampler("performance_model" if is_ours else sampler)
    known = table.calibrations if sampler in CALIBRATED else ()
    replayed = replay_search(
        table.evaluator, table.space, search, order, others, calibrations=known
    )
    return {
        "seed": seed,
        "num_until_best": replayed.num_until_best()[0],
        "num_repeated": replayed.num_repeated,
        "num_until_stop": replayed.num_until_stop,
        "regret_at_stop": replayed.regret_after(replayed.num_until_stop),
        "regret_after": {number: replayed.regret_after(number) for number in REGRET_AFTER},
    }


PLAYERS: dict[str, Callable[[Table, int, int], dict[str, Any]]] = {
    "paper": play_paper,
    "botorch": play_botorch,
    "oracle": play_oracle,
    "coverage": check_coverage,
    "hits": check_hits,
    "hits_calibrated": check_calibrated_hits,
}


def run_case(
    family: str, index: int, sampler: str, seeds: Sequence[int] = (0,)
) -> Iterator[dict[str, Any]]:
    """Yield what one sampler did on one table, seed by seed."""
    origin = commit()
    others = _learnt(family, index) if sampler in LEARNING else None
    for seed in seeds:
        is_among_others = sampler in RELATED
        table = (
            make_related(family, index, seed)[0]
            if is_among_others
            else make_table(family, index, seed)
        )
        if sampler in ("coverage_related", "coverage_calibrated"):
            known = table.calibrations if sampler in CALIBRATED else ()
            found = check_coverage(table, seed, MAX_TRIALS, others=others, calibrations=known)
        else:
            player = PLAYERS.get(sampler) or partial(play, sampler=sampler, others=others)
            found = player(table, seed, MAX_TRIALS)
        yield {"budget": table.budget, "commit": origin, **found}


def seeds_of(index: int, num_seeds: int, thin: int) -> list[int]:
    """Yield a table's seeds: every `thin`-th, not the same in all tables."""
    return [seed for seed in range(num_seeds) if seed % thin == index % thin]


def _learnt(family: str, index: int) -> Others:
    """Yield what other tasks tell: of made-up ones the first trials of a search, else all."""
    table, related = make_related(family, index)
    baseline = table.measured[BASELINE]
    studies = []
    for other in related:
        study = other.recording.as_study(other.recording.seeds[0])
        if other.source is not None:
            search = SearchConfig(
                budgets=(other.budget,),
                max_trials=TRIALS_OF_OTHERS,
                seed=other.seed,
                stop_chance=0.0,
            )
            replayed = replay_search(
                other.evaluator, other.space, search, "performance_model", goes_on=False
            )
            study = replace(study, trials=replayed.trials)
        studies.append(as_other(study, baseline))
    return Others(studies)


def run(options: argparse.Namespace) -> None:
    """Play what a shard does not have yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    shard, num_shards = map(int, options.shard.split("/"))
    for index in range(shard, num_tables(options.family, options.tables), num_shards):
        for sampler in options.samplers.split(","):
            if sampler in ("hits", "hits_calibrated") and not is_first_of_task(
                options.family, index
            ):
                continue  # it asks for all budgets itself
            if sampler in CALIBRATED and options.family != RECORDED:
                continue  # made-up models have no structure
            if sampler in RELATED and not has_others(options.family, index):
                continue  # nothing would be its prior
            seeds = seeds_of(index, options.seeds, options.thin)
            file = options.out / f"{options.family}-{index:03d}-{sampler}.json"
            _complete(file, options.family, index, sampler, seeds)


def _complete(file: Path, family: str, index: int, sampler: str, seeds: Sequence[int]) -> None:
    """Add the seeds that a file of searches lacks."""
    known = json.loads(file.read_text(encoding="utf-8"))["searches"] if file.exists() else []
    lacking = [seed for seed in seeds if seed not in {search["seed"] for search in known}]
    if not lacking:
        return
    table = make_table(family, index)
    case = {
        "family": family,
        "index": index,
        "task": table.recording.task,
        "sampler": sampler,
        "num_candidates": len(table.recording.candidates),
        "searches": [*known, *run_case(family, index, sampler, lacking)],
    }
    partial_file = file.with_suffix(f".{os.getpid()}.partial")
    partial_file.write_text(json.dumps(case) + "\n", encoding="utf-8")
    partial_file.replace(file)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "table", "plot"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--family", choices=[*sorted(FAMILIES), RECORDED], default="reporting")
    parser.add_argument("--tables", type=int, default=NUM_TABLES, help="number of made-up tables")
    parser.add_argument("--samplers", default="performance_model,random,brute_force")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="searches of a table")
    parser.add_argument("--thin", type=int, default=1, help="play every THIN-th seed of a table")
    parser.add_argument("--shard", default="0/1", help="this part of the tables, I/NUM")
    parser.add_argument("--record", type=Path, help="JSON file of what `table` prints")
    parser.add_argument("--image", type=Path, default=Path("search.svg"), help="file of `plot`")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of rivals' libraries
    {"run": run, "table": print_tables, "plot": save_plots}[options.command](options)


if __name__ == "__main__":
    main()
