"""How often does a search stop a trial early, how often wrongly, and what does that save?

    python benchmarks/hopeless.py sqlite:///qnli.db sqlite:///mnli.db --budgets 1,2,5 --out h.json

searches finished studies again, whose databases hold the held-out accuracies of every phase: each
trial reports what it reported then and takes the seconds that it took, so that what stopping
saves is told without training. The search is the real one, once with `search.stop_hopeless` and
once without; `grid` tries every candidate of the study, `performance_model` what the search would.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from autoprumux.config import SearchConfig
from autoprumux.evaluators.base import Report
from autoprumux.evaluators.recorded import START_PHASES
from autoprumux.records import Candidate, Failure, Measurement, StudyRecord, TrialRecord
from autoprumux.search.acquisition import verified_best
from autoprumux.search.endings import is_settled
from autoprumux.search.hopeless import HopelessError, HopelessRule, Watch
from autoprumux.search.sampler import Order, PerformanceModelSampler, free_candidates
from autoprumux.search.space import SearchSpace
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

CAP = 8
"""Trials of a search by the performance model, as in the default preset."""

ORDERS: tuple[Order, ...] = ("grid", "performance_model")


@dataclass
class CurveEvaluator:
    """Reports and yields what the trials of a finished study did; phases are shared as then."""

    study: StudyRecord
    spent_s: float = 0.0
    _done: dict[tuple[object, ...], float] = field(default_factory=dict)

    def cached_widths(self) -> frozenset[int]:
        """See `Evaluator.cached_widths`."""
        done = {key[1] for key, share in self._done.items() if key[0] == "finetune" and share == 1}
        return frozenset(width for width in done if isinstance(width, int))

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        """See `Evaluator.evaluate`."""
        measurement = self.study.measured[candidate]
        phases = measurement.phases
        for position, phase in enumerate(phases):
            later = {other.name for other in phases[position + 1 :]}
            width = 1 if phase.name in later else candidate.num_instances
            key: tuple[object, ...] = (phase.name, width)
            if phase.name not in START_PHASES:
                key = (*key, candidate.sparsity)
            if self._done.get(key, 0.0) == 1.0:
                continue
            report(f"{phase.name}/total", phase.num_updates, 0)
            for point in phase.history:
                if point.name == "held_out_accuracy":
                    self._train(key, point.step / phase.num_updates, phase.duration_s)
                    report(f"{phase.name}/{point.name}", point.value, point.step)
            self._train(key, 1.0, phase.duration_s)
        trained = sum(phase.duration_s for phase in phases if not phase.is_cached)
        self.spent_s += max(0.0, measurement.duration_s - trained)
        return measurement

    def _train(self, key: tuple[object, ...], share: float, duration_s: float) -> None:
        """Go on to a share of a phase; what an earlier trial did of it costs nothing."""
        done = self._done.get(key, 0.0)
        self.spent_s += max(0.0, share - done) * duration_s
        self._done[key] = max(share, done)


@dataclass(frozen=True)
class Search:
    """What a search of a finished study ended with."""

    record: StudyRecord
    minutes: float

    def answer(self, budget: float) -> float:
        """Yield the best speed-up measured within a budget."""
        return verified_best(self.record.measured, budget)


def search_again(
    study: StudyRecord, budget: float, order: Order, *, stop_hopeless: bool
) -> Search:
    """Search a finished study with the sampler, the stop rules and the order of a real search."""
    stored: Any = study.config
    space = SearchSpace(tuple(sorted(study.measured)))
    is_grid = order == "grid"
    config = SearchConfig(
        budgets=(budget,),
        max_trials=len(space.candidates) if is_grid else CAP,
        stop_chance=0.0 if is_grid else 0.05,
    )
    record = replace(study, trials=(), budgets=(budget,))
    evaluator = CurveEvaluator(study)
    sampler = PerformanceModelSampler(
        space,
        (budget,),
        order=order,
        history=lambda: record,
        cached_widths=evaluator.cached_widths,
    )
    asked = optuna.create_study(directions=["maximize"] * 2, sampler=sampler)
    while len(record.trials) < config.max_trials:
        free = free_candidates(space, record)
        if not free or is_settled(record, space, config, free):
            break
        trial = asked.ask()
        candidate = space.suggest(trial)
        rule = HopelessRule.from_study(record, stored["trainer"]["data"]["num_held_out"])
        watch = Watch(rule, candidate) if stop_hopeless and rule is not None else None
        done = _run(evaluator, trial.number, candidate, watch)
        record = replace(record, trials=(*record.trials, done))
        asked.tell(trial, state=TrialState.FAIL)  # the sampler reads `history`, not this
    return Search(record, evaluator.spent_s / 60)


def _run(
    evaluator: CurveEvaluator, number: int, candidate: Candidate, watch: Watch | None
) -> TrialRecord:
    def report(name: str, value: float, step: int) -> None:
        if watch is not None:
            watch.see(name, value, step)

    shared: dict[str, Any] = {"number": number, "candidate": candidate}
    try:
        measurement = evaluator.evaluate(candidate, 0, report)
    except HopelessError as error:
        failure = Failure(
            cause=error.cause, message=str(error), reachable_accuracy=error.reachable
        )
        return TrialRecord(**shared, state="failed", failure=failure)
    return TrialRecord(**shared, state="complete", measurement=measurement)


def compare(study: StudyRecord, budget: float, order: Order) -> dict[str, Any]:
    """Yield one row: the search with and without stopping."""
    plain = search_again(study, budget, order, stop_hopeless=False)
    found = search_again(study, budget, order, stop_hopeless=True)
    stopped = [trial for trial in found.record.trials if trial.failure is not None]
    return {
        "task": study.task,
        "points": round(100 * budget, 1),
        "order": order,
        "trials without": len(plain.record.trials),
        "trials": len(found.record.trials),
        "stopped": len(stopped),
        "wrong": sum(_loss(study, t.candidate) <= budget + 1e-9 for t in stopped),
        "above bound": sum(_is_above(study, t) for t in stopped),
        "minutes without": round(plain.minutes, 1),
        "minutes": round(found.minutes, 1),
        "best without": round(plain.answer(budget), 2),
        "best": round(found.answer(budget), 2),
    }


def _loss(study: StudyRecord, candidate: Candidate) -> float:
    assert study.baseline is not None
    return study.baseline.accuracy - study.measured[candidate].accuracy


def _is_above(study: StudyRecord, trial: TrialRecord) -> bool:
    assert trial.failure is not None
    assert trial.failure.reachable_accuracy is not None
    return study.measured[trial.candidate].accuracy > trial.failure.reachable_accuracy


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row per study, budget and sampler."""
    for url in options.storage:
        database = open_database(url, must_exist=True)
        repository = Repository(database)
        studies = [repository.load_study(study.name) for study in repository.list_studies()]
        database.close()
        for study in studies:
            for points in options.budgets.split(","):
                for order in ORDERS:
                    yield compare(study, float(points) / 100, order)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("storage", nargs="+", help="URLs of databases with finished full grids")
    parser.add_argument("--budgets", default="0.5,1,2,3,5,10", help="points, each searched alone")
    parser.add_argument("--out", type=Path, help="JSON file of the rows")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = pd.DataFrame(rows(options))
    if options.out:
        options.out.write_text(table.to_json(orient="records", indent=2) + "\n", encoding="utf-8")
    with pd.option_context("display.width", 160, "display.max_columns", 20):
        print(table.to_string(index=False))


if __name__ == "__main__":
    main()
