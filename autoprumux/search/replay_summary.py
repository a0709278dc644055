"""Many replayed searches in a few numbers per sampler, plain and ready for JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import TrialRecord
from autoprumux.search.replay import ReplayedSearch
from autoprumux.search.replay_statistics import bootstrap, interval_of_means, signed_rank_p

REGRET_AFTER = (4, 6, 8, 12, 16)
"""Trials after which the regret is told."""
_STATISTICS = ("median_until_best", "percentile_90_until_best", "mean_until_best")


def summarise(
    searches: Sequence[ReplayedSearch], reference: Sequence[ReplayedSearch] = ()
) -> dict[str, Any]:
    """Yield what one sampler did in searches of several seeds.

    Trials until the best are counted per search and budget; where it was never measured, as one
    more than the search had. Regret is the share of the best speed-up that is missed. Intervals
    are 95 % bootstrap intervals over searches.

    Args:
        searches: Of one sampler.
        reference: Those of another with the same seeds, of which is tested whether it needs fewer
            trials; none if empty.
    """
    firsts = [_firsts(search) for search in searches]
    ends = bootstrap(firsts, _statistics)
    regrets = np.array([[s.regret_after(number) for number in REGRET_AFTER] for s in searches])
    low, high = interval_of_means(regrets)
    return {
        "sampler": searches[0].sampler,
        "num_searches": len(searches),
        **dict(zip(_STATISTICS, _statistics(np.concatenate(firsts)), strict=True)),
        **{f"{name}_interval": list(end) for name, end in zip(_STATISTICS, ends, strict=True)},
        "p_reference_needs_fewer": _p_fewer(reference, searches) if reference else None,
        "regret_after": dict(zip(REGRET_AFTER, regrets.mean(axis=0).tolist(), strict=True)),
        "regret_after_interval": dict(
            zip(REGRET_AFTER, np.stack([low, high], axis=1).tolist(), strict=True)
        ),
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


def _firsts(search: ReplayedSearch) -> list[float]:
    return [first or len(search.trials) + 1 for first in search.num_until_best()]


def _statistics(firsts: NDArray[np.float64]) -> tuple[float, ...]:
    """Yield the values of `_STATISTICS`."""
    return float(np.median(firsts)), float(np.percentile(firsts, 90)), float(np.mean(firsts))


def _p_fewer(fewer: Sequence[ReplayedSearch], more: Sequence[ReplayedSearch]) -> float:
    """Yield the p of a one-sided signed-rank test over searches of the same seed."""
    pairs = zip(fewer, more, strict=True)
    return signed_rank_p([float(np.mean(_firsts(a)) - np.mean(_firsts(b))) for a, b in pairs])


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
