"""How many trials does a search need, and do the intervals hold, on made-up tasks?

Two families of tables with the structure of published results: additive losses of multiplexing
and pruning with an interaction, a plateau at small losses, collapse at high N and s, measurement
noise, and a latency law that no table follows exactly. Constants are tuned on one family and
results are told from the other; they differ in the seed alone.

    python benchmarks/search.py run --out results --family reporting
    python benchmarks/search.py table --out results --family reporting

`run` writes one file per table and sampler and skips those that are there, so it may be stopped
at any time, and several may work on parts of a family (`--shard 0/4`). A table is one task and one
budget, drawn from 0, 0.5, ... 10 points such that a model faster than the baseline meets it.
"""

import argparse
import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autoprumux.config import SearchConfig
from autoprumux.evaluators.recorded import RecordedEvaluator
from autoprumux.evaluators.recording import RecordedTrial, Recording
from autoprumux.evaluators.synthetic import DEFAULT_GRID, SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Measurement
from autoprumux.search.acquisition import verified_best
from autoprumux.search.replay import ReplayedSearch, as_sampler, replay_search
from autoprumux.search.replay_summary import REGRET_AFTER
from autoprumux.search.space import SearchSpace
from autoprumux.surrogates.performance import PerformanceModel

FAMILIES = {"tuning": 1, "reporting": 2}
"""Seed of each family; constants of the package may depend on the first alone."""

NUM_TABLES = 200
BUDGETS = tuple(half_points / 200 for half_points in range(21))
BASELINE = Candidate(1, 0.0)
SPACE = SearchSpace(tuple(sorted(DEFAULT_GRID)))
MAX_TRIALS = 16

COVERAGE_AFTER = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24)
"""Trials after which the intervals are checked; a search that ended goes on in random order."""
LEVELS = {0.5: 0.674490, 0.8: 1.281552, 0.9: 1.644854}
"""Normal quantiles of the intervals."""
COLLAPSED = 0.20
"""Larger losses are no model that anybody wants; how well they are predicted does not count."""


@dataclass(frozen=True)
class Table:
    """What every candidate of one made-up task yields, and the budget asked for."""

    measured: dict[Candidate, Measurement]
    budget: float

    def evaluator(self) -> RecordedEvaluator:
        """Yield an evaluator that looks it up."""
        trials = tuple(
            RecordedTrial(candidate=candidate, seed=0, measurement=measurement)
            for candidate, measurement in self.measured.items()
        )
        return RecordedEvaluator(
            Recording(
                name="table",
                task="synthetic",
                data_fingerprint="synthetic",
                trainer={},
                commands=(),
                environment={},
                recorded="",
                trials=trials,
            )
        )


def make_table(family: str, index: int) -> Table:
    """Draw a task and a budget."""
    rng = np.random.default_rng([FAMILIES[family], index])
    task = SyntheticTask(
        baseline_accuracy=rng.uniform(0.80, 0.96),
        chance_accuracy=float(rng.choice([1 / 3, 0.5])),
        width_loss=0.09 * math.exp(0.6 * rng.standard_normal()),
        width_power=rng.uniform(0.8, 1.8),
        sparsity_loss=0.06 * math.exp(0.6 * rng.standard_normal()),
        sparsity_power=rng.uniform(1.5, 4.5),
        interaction=rng.uniform(0.0, 0.06),
        collapse=rng.uniform(1.3, 1.8) if rng.random() < 0.4 else math.inf,
        latency=(
            0.10 * math.exp(0.5 * rng.standard_normal()),
            0.90,
            0.02 * math.exp(0.8 * rng.standard_normal()),
        ),
        num_examples=int(rng.choice([872, 2000, 4000, 5463, 9815])),
    )
    plateau = rng.uniform(0.0, 0.01) if rng.random() < 0.5 else 0.0
    bend = rng.uniform(0.85, 1.15)
    measured = {c: _measure(task, c, plateau, bend, rng) for c in SPACE.candidates}
    faster = [budget for budget in BUDGETS if verified_best(measured, budget) > 1.0]
    return Table(measured, float(rng.choice(faster or BUDGETS[-1:])))


def _measure(
    task: SyntheticTask,
    candidate: Candidate,
    plateau: float,
    bend: float,
    rng: np.random.Generator,
) -> Measurement:
    """Yield the closed form with a plateau, a bent law and noise in both targets."""
    demo = SyntheticEvaluator(task=replace(task, num_examples=8)).evaluate(
        candidate, 0, lambda *_: None
    )
    accuracy = task.accuracy(candidate)
    if accuracy > task.chance_accuracy and not candidate.is_baseline:
        rough = 0.0025 * rng.standard_normal()
        accuracy = min(accuracy + plateau, task.baseline_accuracy) + rough
    share = min(max(accuracy, 0.0), 1.0)
    bent = Candidate(candidate.num_instances, 1.0 - (1.0 - candidate.sparsity) ** bend)
    noise = 0.0 if candidate.is_baseline else 0.02 * rng.standard_normal()
    speedup = task.speedup(bent) * math.exp(noise)
    return replace(
        demo,
        accuracy=rng.binomial(task.num_examples, share) / task.num_examples,
        num_examples=task.num_examples,
        throughput=replace(demo.throughput, speedup=speedup),
    )


def run_case(family: str, index: int, sampler: str) -> dict[str, Any]:
    """Yield what one sampler did on one table."""
    table = make_table(family, index)
    is_ours = sampler == "performance_model"
    search = SearchConfig(
        budgets=(table.budget,), max_trials=MAX_TRIALS, seed=index, stop_chance=0.05 * is_ours
    )
    replayed = replay_search(table.evaluator, SPACE, search, as_sampler(sampler))
    case = {
        "family": family,
        "index": index,
        "sampler": sampler,
        "budget": table.budget,
        "num_until_best": replayed.num_until_best()[0],
        "num_until_stop": replayed.num_until_stop,
        "regret_at_stop": replayed.regret_after(replayed.num_until_stop),
        "regret_after": {number: replayed.regret_after(number) for number in REGRET_AFTER},
    }
    return case | ({"coverage": list(_coverage(table, replayed))} if is_ours else {})


def _coverage(table: Table, replayed: ReplayedSearch) -> Iterator[dict[str, Any]]:
    """Yield, per number of trials, how many unmeasured values lie in the predicted intervals."""
    order = [trial.candidate for trial in replayed.trials]
    rest = [c for c in SPACE.candidates if c not in order]
    order += [rest[i] for i in np.random.default_rng(replayed.seed).permutation(len(rest))]
    baseline = table.measured[BASELINE].accuracy
    for number in COVERAGE_AFTER:
        known = {candidate: table.measured[candidate] for candidate in order[:number]}
        model = PerformanceModel.from_measured(known, (), SPACE.candidates)
        scores = []
        for predicted in model.predict(order[number:]):
            measured = table.measured[predicted.candidate]
            loss = baseline - measured.accuracy
            speed_error = math.log(measured.speedup / predicted.speedup)
            if loss < COLLAPSED:
                loss_score = (loss - predicted.accuracy_loss) / predicted.accuracy_loss_std
                scores.append((loss_score, speed_error / predicted.log_speedup_std))
        for target, values in zip(("loss", "speedup"), zip(*scores, strict=True), strict=False):
            within = {level: float(np.mean(np.abs(values) <= z)) for level, z in LEVELS.items()}
            yield {"trials": number, "target": target, "num": len(values), "within": within}


def run(options: argparse.Namespace) -> None:
    """Run the cases of a shard that are not stored yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    shard, num_shards = map(int, options.shard.split("/"))
    for index in range(shard, options.tables, num_shards):
        for sampler in options.samplers.split(","):
            file = options.out / f"{options.family}-{index:03d}-{sampler}.json"
            if not file.exists():
                partial = file.with_suffix(f".{os.getpid()}.partial")
                case = run_case(options.family, index, sampler)
                partial.write_text(json.dumps(case) + "\n", encoding="utf-8")
                partial.replace(file)


def print_table(options: argparse.Namespace) -> None:
    """Print what is stored of a family, and write it as JSON."""
    files = sorted(options.out.glob(f"{options.family}-*-*.json"))
    cases = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    summary = {
        "family": options.family,
        "searches": _search_rows(cases),
        "coverage": _coverage_rows(cases),
        "platform": platform.platform(),
        "versions": {p: version(p) for p in ("autoprumux", "numpy", "optuna")},
    }
    path = options.out / f"{options.family}.json"
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with pd.option_context("display.width", 120, "display.max_columns", 20):
        print(pd.DataFrame(summary["searches"]).round(3).to_string(index=False), "\n")
        print(pd.DataFrame(summary["coverage"]).round(3).to_string(index=False))


def _search_rows(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for sampler in dict.fromkeys(case["sampler"] for case in cases):
        own = [case for case in cases if case["sampler"] == sampler]
        firsts = [case["num_until_best"] for case in own]
        regrets = {
            f"regret@{n}": float(np.mean([case["regret_after"][str(n)] for case in own]))
            for n in REGRET_AFTER
        }
        rows.append(
            {
                "sampler": sampler,
                "tables": len(own),
                "median": float(np.median(firsts)),
                "90 %": float(np.percentile(firsts, 90)),
                **regrets,
                "stop": float(np.mean([case["num_until_stop"] for case in own])),
                "regret@stop": float(np.mean([case["regret_at_stop"] for case in own])),
            }
        )
    return rows


def _coverage_rows(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Yield the share of values inside the intervals, over all values of all tables."""
    checks = [check for case in cases for check in case.get("coverage", ())]
    rows = []
    for target in ("loss", "speedup"):
        for number in COVERAGE_AFTER:
            own = [c for c in checks if (c["target"], c["trials"]) == (target, number)]
            counts = [check["num"] for check in own]
            if counts:
                shares = {
                    f"{100 * level:.0f} %": float(
                        np.average([c["within"][str(level)] for c in own], weights=counts)
                    )
                    for level in LEVELS
                }
                rows.append({"target": target, "trials": number, "values": sum(counts), **shares})
    return rows


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="reporting")
    parser.add_argument("--tables", type=int, default=NUM_TABLES)
    parser.add_argument("--samplers", default="performance_model,random,grid")
    parser.add_argument("--shard", default="0/1", help="this part of the tables, I/NUM")
    options = parser.parse_args()
    (run if options.command == "run" else print_table)(options)


if __name__ == "__main__":
    main()
