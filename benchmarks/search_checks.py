"""Two questions about a search's predictions: do the intervals hold, is the best among three?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from search_oracle import rank_knowing
from search_tables import BASELINE, BUDGETS, Table

from autoprumux.answers import answer_budgets
from autoprumux.config import SearchConfig
from autoprumux.records import Calibration, Candidate, StudyRecord
from autoprumux.search.acquisition import verified_best
from autoprumux.search.replay import replay_search
from autoprumux.search.sampler import fit_model
from autoprumux.surrogates.pairs import PaperPair
from autoprumux.surrogates.related import Others
from autoprumux.validation.budget_hits import hit_row
from autoprumux.validation.grid import MeasuredGrid

HITS_AFTER = 12
"""Trials after which three answers to each of 21 budgets are compared with the best."""
COVERAGE_AFTER = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24)
"""Trials after which the intervals are checked; a search that ended goes on in random order."""
LEVELS = {0.5: 0.674490, 0.8: 1.281552, 0.9: 1.644854}
"""Normal quantiles of the intervals."""
COLLAPSED = 0.20
"""Larger losses are no model that anybody wants; how well they are predicted does not count."""
_BORDER = 1e-9


def check_hits(table: Table, seed: int, max_trials: int) -> dict[str, Any]:
    """Yield the share of 21 budgets whose best model is among three, by how those are ranked.

    Ours is what a query names after a search for all budgets. The oracle has the same measured
    candidates. The paper has its 24 training cells: with this task's own speed-ups, which it would
    have to measure on all 36, and with those of another task, as it does.
    """
    ours, tried = _named(table, seed)
    return {
        "seed": seed,
        "hit_rate": _hit_rate(table, ours),
        "oracle_hit_rate": _hit_rate(table, rank_knowing(table, tried, BUDGETS)),
        "paper_hit_rate": _paper_hit_rate(
            table, {candidate: m.speedup for candidate, m in table.measured.items()}
        ),
        "paper_table_hit_rate": _paper_hit_rate(table, table.other_speedups()),
    }


def check_calibrated_hits(table: Table, seed: int, max_trials: int) -> dict[str, Any]:
    """Yield the share of `check_hits` of ours, with a calibration of the device."""
    ours, _ = _named(table, seed, table.calibrations)
    return {"seed": seed, "hit_rate": _hit_rate(table, ours)}


def check_coverage(
    table: Table,
    seed: int,
    max_trials: int,
    *,
    others: Others | None = None,
    calibrations: tuple[Calibration, ...] = (),
) -> dict[str, Any]:
    """Yield, per number of trials, how many unmeasured values lie in the predicted intervals."""
    search = SearchConfig(budgets=(table.budget,), max_trials=max_trials, seed=seed)
    replayed = replay_search(
        table.evaluator,
        table.space,
        search,
        "performance_model",
        others,
        calibrations=calibrations,
        goes_on=False,
    )
    order = [trial.candidate for trial in replayed.trials]
    rest = [c for c in table.space.candidates if c not in order]
    order += [rest[i] for i in np.random.default_rng(seed).permutation(len(rest))]
    return {"seed": seed, "coverage": list(_coverage(table, order, (others, calibrations)))}


def _named(
    table: Table, seed: int, calibrations: tuple[Calibration, ...] = ()
) -> tuple[list[list[Candidate]], list[Candidate]]:
    """Yield what a query names for each budget after a search for all, and what that tried."""
    search = SearchConfig(budgets=BUDGETS, max_trials=HITS_AFTER, seed=seed, stop_chance=0.0)
    replayed = replay_search(
        table.evaluator,
        table.space,
        search,
        "performance_model",
        calibrations=calibrations,
        goes_on=False,
    )
    study = replace(_study(table), trials=replayed.trials, calibrations=calibrations)
    answers = answer_budgets(study, BUDGETS)
    named = [[model.candidate for model in answer.predicted] for answer in answers]
    return named, [trial.candidate for trial in replayed.trials]


def _study(table: Table) -> StudyRecord:
    return table.recording.as_study(table.recording.seeds[0])


def _hit_rate(table: Table, tops: Sequence[Sequence[Candidate]]) -> float:
    """Yield the share of the budgets whose top three hold one as fast as the fastest within it."""
    measured = table.measured
    baseline, hits = measured[BASELINE].accuracy, []
    for budget, top in zip(BUDGETS, tops, strict=True):
        best = verified_best(measured, budget)
        found = [measured[candidate] for candidate in top if candidate in measured]
        hits.append(
            any(
                m.speedup >= best - _BORDER and baseline - m.accuracy <= budget + _BORDER
                for m in found
            )
        )
    return float(np.mean(hits))


def _paper_hit_rate(table: Table, speedups: dict[Candidate, float]) -> float:
    row = hit_row(PaperPair(speedups), MeasuredGrid(table.measured), "all")
    return float(np.mean(row.hits))


def _coverage(
    table: Table, order: Sequence[Candidate], told: tuple[Others | None, tuple[Calibration, ...]]
) -> Iterator[dict[str, Any]]:
    trials = tuple(table.as_trial(number, candidate) for number, candidate in enumerate(order))
    others, calibrations = told
    for number in COVERAGE_AFTER:
        study = replace(_study(table), trials=trials[:number], calibrations=calibrations)
        model = fit_model(study, table.space, others)
        baseline, checks = table.measured[BASELINE].accuracy, []
        for predicted in model.predict([c for c in order[number:] if c in table.measured]):
            true = table.measured[predicted.candidate]
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
