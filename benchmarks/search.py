"""How many trials does a search need, and do the intervals hold?

    python benchmarks/search.py run --out results --family reporting
    python benchmarks/search.py table --out results --family reporting
    python benchmarks/search.py plot --out results --family reporting --image search.svg

Families (`search_tables`): `tuning` and `reporting` are made-up tasks with additive losses, a
plateau, collapse at high N and s, noise, and a latency law that no table follows exactly; they
differ in the seed alone. Constants of the package may be tuned on `tuning`, results are told from
the others. `foreign` has losses of another form, which saturate, rise in steps and multiply.
`recorded` are the recordings of the repository, each with every budget of 0, 0.5, ... 10 points
that a model faster than the baseline meets. A made-up table is one task and one such budget.

`run` writes one file per table and sampler and skips those that are there, so it may be stopped
at any time, and several may work on parts of a family (`--shard 0/4`). `--seeds` counts only for
samplers that draw at random. Samplers are those of `autoprumux replay`, and

    related       ours, with other tasks of the same model as a prior: three made-up ones, each
                  searched with eight trials on the same device, or the other recordings
    unrelated     ours, on the same tables without them
    equal_costs   ours, where every trial costs the same, not more for a new width
    paper         the paper's 24 training cells, then the three its models predict to be best
    botorch       constrained expected improvement of Gaussian processes (extra `rivals`)
    coverage      ours, with its intervals checked after so many trials
    hits          ours for all budgets at once: is the best model among three after 12 trials?
"""

import argparse
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from search_report import print_tables, save_plot
from search_rivals import Measured, play_botorch, play_paper
from search_tables import (
    BASELINE,
    BUDGETS,
    FAMILIES,
    NUM_TABLES,
    RECORDED,
    Table,
    make_related,
    make_table,
    num_tables,
)

from autoprumux.answers import answer_budgets
from autoprumux.config import SearchConfig
from autoprumux.ranking import NUM_PREDICTED, Rankable, rank_predicted
from autoprumux.search.acquisition import verified_best
from autoprumux.search.related import as_other
from autoprumux.search.replay import ReplayedSearch, as_sampler, replay_search
from autoprumux.search.replay_summary import REGRET_AFTER
from autoprumux.surrogates.performance import PerformanceModel
from autoprumux.surrogates.related import Others

MAX_TRIALS = 16
STOP_CHANCE = 0.05
HITS_AFTER = 12
"""Trials after which three answers to each of 21 budgets are compared with the best."""
COVERAGE_AFTER = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24)
"""Trials after which the intervals are checked; a search that ended goes on in random order."""
LEVELS = {0.5: 0.674490, 0.8: 1.281552, 0.9: 1.644854}
"""Normal quantiles of the intervals."""
COLLAPSED = 0.20
"""Larger losses are no model that anybody wants; how well they are predicted does not count."""

TRIALS_OF_OTHERS = 8
"""Of each made-up task that is a prior of another."""

OURS = ("performance_model", "equal_costs", "related", "unrelated")
WITHOUT_CHANCE = {*OURS, "grid", "coverage", "hits"}
"""They do the same with every seed, unless several seeds are recorded."""


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
    replayed = replay_search(table.evaluator, table.space, search, order, others)
    return {
        "seed": seed,
        "num_until_best": replayed.num_until_best()[0],
        "num_repeated": replayed.num_repeated,
        "num_until_stop": replayed.num_until_stop,
        "regret_at_stop": replayed.regret_after(replayed.num_until_stop),
        "regret_after": {number: replayed.regret_after(number) for number in REGRET_AFTER},
    }


def check_coverage(table: Table, seed: int, max_trials: int) -> dict[str, Any]:
    """Yield, per number of trials, how many unmeasured values lie in the predicted intervals."""
    search = SearchConfig(
        budgets=(table.budget,), max_trials=max_trials, seed=seed, stop_chance=STOP_CHANCE
    )
    replayed = replay_search(table.evaluator, table.space, search, "performance_model")
    return {"seed": seed, "coverage": list(_coverage(table, replayed))}


def check_hits(table: Table, seed: int, max_trials: int) -> dict[str, Any]:
    """Yield the share of 21 budgets whose best model is among three, as a query ranks them."""
    search = SearchConfig(
        budgets=BUDGETS, max_trials=max(max_trials, HITS_AFTER), seed=seed, stop_chance=0.0
    )
    replayed = replay_search(table.evaluator, table.space, search, "performance_model")
    study = table.recording.as_study(table.recording.seeds[0])
    study = replace(study, trials=replayed.trials[:HITS_AFTER])
    answers = answer_budgets(study, BUDGETS)
    model = PerformanceModel.from_measured(study.by_cell, {}, table.space.candidates)
    predictions = model.predict(table.space.candidates)
    paper = [rank_predicted(predictions, budget)[:NUM_PREDICTED] for budget in BUDGETS]
    found = table.measured(seed)
    return {
        "seed": seed,
        "hit_rate": _hit_rate(found, [answer.predicted for answer in answers]),
        "paper_hit_rate": _hit_rate(found, paper),
    }


PLAYERS: dict[str, Callable[[Table, int, int], dict[str, Any]]] = {
    "paper": play_paper,
    "botorch": play_botorch,
    "coverage": check_coverage,
    "hits": check_hits,
}


def run_case(family: str, index: int, sampler: str, num_seeds: int = 1) -> dict[str, Any]:
    """Yield what one sampler did on one table, with each seed."""
    table, others = make_table(family, index), None
    if sampler in ("related", "unrelated"):
        table, related = make_related(family, index)
        others = _learnt(table, related) if sampler == "related" else None
    has_chance = sampler not in WITHOUT_CHANCE or len(table.recording.seeds) > 1
    player = PLAYERS.get(sampler) or partial(play, sampler=sampler, others=others)
    return {
        "family": family,
        "index": index,
        "task": table.recording.task,
        "sampler": sampler,
        "budget": table.budget,
        "num_candidates": len(table.space.candidates),
        "searches": [
            player(table, seed, MAX_TRIALS) for seed in range(num_seeds if has_chance else 1)
        ],
    }


def _learnt(table: Table, related: Sequence[Table]) -> Others:
    """Yield what other tasks tell: of made-up ones the first trials of a search, else all."""
    baseline = table.measured()[BASELINE]
    studies = []
    for seed, other in enumerate(related):
        study = other.recording.as_study(other.recording.seeds[0])
        if table.recording.task == other.recording.task:
            search = SearchConfig(
                budgets=(other.budget,), max_trials=TRIALS_OF_OTHERS, seed=seed, stop_chance=0.0
            )
            replayed = replay_search(other.evaluator, other.space, search, "performance_model")
            study = replace(study, trials=replayed.trials[:TRIALS_OF_OTHERS])
        studies.append(as_other(study, baseline))
    return Others(studies)


def run(options: argparse.Namespace) -> None:
    """Run the cases of a shard that are not stored yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    shard, num_shards = map(int, options.shard.split("/"))
    for index in range(shard, num_tables(options.family, options.tables), num_shards):
        for sampler in options.samplers.split(","):
            file = options.out / f"{options.family}-{index:03d}-{sampler}.json"
            if not file.exists():
                partial_file = file.with_suffix(f".{os.getpid()}.partial")
                case = run_case(options.family, index, sampler, options.seeds)
                partial_file.write_text(json.dumps(case) + "\n", encoding="utf-8")
                partial_file.replace(file)


def _hit_rate(measured: Measured, tops: Sequence[Sequence[Rankable]]) -> float:
    """Yield the share of the budgets whose top three hold one as fast as the fastest within it."""
    baseline, hits = measured[BASELINE].accuracy, []
    for budget, top in zip(BUDGETS, tops, strict=True):
        best = verified_best(measured, budget)
        found = [measured[m.candidate] for m in top if m.candidate in measured]
        hits.append(
            any(m.speedup >= best - 1e-9 and baseline - m.accuracy <= budget + 1e-9 for m in found)
        )
    return float(np.mean(hits))


def _coverage(table: Table, replayed: ReplayedSearch) -> Iterator[dict[str, Any]]:
    candidates, measured = table.space.candidates, table.measured(replayed.seed)
    order = [trial.candidate for trial in replayed.trials]
    rest = [c for c in candidates if c not in order]
    order += [rest[i] for i in np.random.default_rng(replayed.seed).permutation(len(rest))]
    order = [candidate for candidate in order if candidate in measured]
    for number in COVERAGE_AFTER:
        known = {candidate: measured[candidate] for candidate in order[:number]}
        model = PerformanceModel.from_measured(known, {}, candidates)
        baseline, checks = measured[BASELINE].accuracy, []
        for predicted in model.predict(order[number:]):
            true = measured[predicted.candidate]
            loss = baseline - true.accuracy
            speed_error = math.log(true.speedup / predicted.speedup)
            if loss < COLLAPSED:
                error = loss - predicted.accuracy_loss
                checks.append(
                    (error, predicted.accuracy_loss_std, speed_error, predicted.log_speedup_std)
                )
        if checks:
            columns = np.array(checks).T
            for target, (errors, stds) in (("loss", columns[:2]), ("speedup", columns[2:])):
                yield {"trials": number, "target": target, **_checked(errors, stds)}


def _checked(errors: np.ndarray, stds: np.ndarray) -> dict[str, Any]:
    return {
        "num": len(errors),
        "within": {
            level: float(np.mean(np.abs(errors) <= quantile * stds))
            for level, quantile in LEVELS.items()
        },
        "width": float(np.mean(2 * LEVELS[0.9] * stds)),
        "error": float(np.median(np.abs(errors))),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "table", "plot"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--family", choices=[*sorted(FAMILIES), RECORDED], default="reporting")
    parser.add_argument("--tables", type=int, default=NUM_TABLES, help="number of made-up tables")
    parser.add_argument("--samplers", default="performance_model,random,grid")
    parser.add_argument("--seeds", type=int, default=1, help="searches of a table")
    parser.add_argument("--shard", default="0/1", help="this part of the tables, I/NUM")
    parser.add_argument("--image", type=Path, default=Path("search.svg"), help="file of `plot`")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of rivals' libraries
    {"run": run, "table": print_tables, "plot": save_plot}[options.command](options)


if __name__ == "__main__":
    main()
