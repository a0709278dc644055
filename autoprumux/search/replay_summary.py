"""Many replayed searches in a few numbers per sampler, plain and ready for JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autoprumux.records import TrialRecord
from autoprumux.search.replay import ReplayedSearch

REGRET_AFTER = (4, 6, 8, 12, 16)
"""Trials after which the regret is told."""


def summarise(searches: Sequence[ReplayedSearch]) -> dict[str, Any]:
    """Yield what one sampler did in searches of several seeds.

    Trials until the best are counted per search and budget; where it was never measured, as one
    more than the search had. Regret is the share of the best speed-up that is missed.
    """
    firsts = [
        first or len(search.trials) + 1 for search in searches for first in search.num_until_best()
    ]
    return {
        "sampler": searches[0].sampler,
        "num_searches": len(searches),
        "median_until_best": float(np.median(firsts)),
        "percentile_90_until_best": float(np.percentile(firsts, 90)),
        "regret_after": {
            number: float(np.mean([search.regret_after(number) for search in searches]))
            for number in REGRET_AFTER
        },
        "mean_until_stop": float(np.mean([search.num_until_stop for search in searches])),
        "mean_minutes_until_stop": float(
            np.mean([search.minutes_until_stop() for search in searches])
        ),
        "regret_at_stop": float(
            np.mean([search.regret_after(search.num_until_stop) for search in searches])
        ),
        "mean_repeated": float(np.mean([search.num_repeated for search in searches])),
        "searches": [_search_to_dict(search) for search in searches],
    }


def _search_to_dict(search: ReplayedSearch) -> dict[str, Any]:
    answers = zip(search.budgets, search.answers(), search.num_until_best(), strict=True)
    return {
        "seed": search.seed,
        "num_until_stop": search.num_until_stop,
        "stop_reason": search.stop_reason,
        "minutes_until_stop": search.minutes_until_stop(),
        "answers": [
            {
                "budget": budget,
                "num_instances": candidate.num_instances,
                "sparsity": candidate.sparsity,
                "speedup": search.best_after(search.num_until_stop, budget),
                "best_speedup": best,
                "num_until_best": first,
            }
            for (budget, candidate, first), best in zip(answers, search.bests, strict=True)
        ],
        "trials": [_trial_to_dict(trial) for trial in search.trials],
    }


def _trial_to_dict(trial: TrialRecord) -> dict[str, Any]:
    measurement, failure = trial.measurement, trial.failure
    return {
        "num_instances": trial.candidate.num_instances,
        "sparsity": trial.candidate.sparsity,
        "accuracy": measurement.accuracy if measurement else None,
        "speedup": measurement.speedup if measurement else None,
        "minutes": measurement.duration_s / 60 if measurement else None,
        "failure": failure.cause if failure else None,
    }
