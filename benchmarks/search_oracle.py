"""What can be known at all: an oracle that knows a task, but not the noise of what is unmeasured.

Of a made-up task it knows the true accuracies, speed-ups and chances to fail; of a recorded one
all trainings, but not which of them this search gets. So it knows the distribution of everything
that is unmeasured, and its three best are those of the largest chance. No ranking of the same
measured candidates holds the best more often, whatever it has learnt. A search by it tries what
is most likely the best.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search_rivals import summarise_order
from search_tables import BASELINE, Table
from search_tasks import Yields

from autoprumux.ranking import NUM_PREDICTED, TIE
from autoprumux.records import Candidate, Measurement
from autoprumux.search.acquisition import verified_best

NUM_DRAWS = 2000
"""Searches that it imagines: chances are known to about a point."""


def rank_knowing(
    table: Table, known: Sequence[Candidate], budgets: Sequence[float]
) -> list[list[Candidate]]:
    """Yield, per budget, the three candidates that are most likely the best measured ones.

    Args:
        table: The task; of the `known` candidates this search's outcomes are used.
        known: Measured candidates, and failed ones; the dense baseline among them.
        budgets: Largest accuracy losses, fractions.
    """
    told = _told(table, table.possible(NUM_DRAWS), known)
    candidates = table.recording.candidates
    tops = []
    for budget in budgets:
        chances = _chances(table, told, budget)
        order = np.argsort(-chances, kind="stable")[:NUM_PREDICTED]
        tops.append([candidates[place] for place in order])
    return tops


def play_oracle(table: Table, seed: int, max_trials: int) -> dict[str, Any]:
    """Yield what a search does that always tries what is most likely the best."""
    best, order = verified_best(table.measured, table.budget), list[Candidate]()
    for candidate in _order(table):
        order.append(candidate)
        known = {c: table.measured[c] for c in order if c in table.measured}
        if verified_best(known, table.budget) >= best - TIE:
            break
    return summarise_order(table, order)


def _order(table: Table) -> Iterator[Candidate]:
    candidates = table.recording.candidates
    possible = table.possible(NUM_DRAWS)
    tried = [BASELINE]
    yield BASELINE
    while len(tried) < len(candidates):
        chances = _chances(table, _told(table, possible, tried), table.budget)
        free = [place for place, c in enumerate(candidates) if c not in tried]
        chosen = candidates[max(free, key=lambda place: chances[place])]
        tried.append(chosen)
        yield chosen


def _told(table: Table, possible: Yields, known: Sequence[Candidate]) -> Yields:
    """Replace what is imagined of the known candidates by their outcomes."""
    told = Yields(**{name: values.copy() for name, values in vars(possible).items()})
    for candidate in known:
        place, outcome = table.recording.candidates.index(candidate), table.outcomes[candidate]
        told.is_trained[:, place] = isinstance(outcome, Measurement)
        if isinstance(outcome, Measurement):
            told.accuracies[:, place] = outcome.accuracy
            told.speedups[:, place] = outcome.speedup
    return told


def _chances(table: Table, told: Yields, budget: float) -> NDArray[np.float64]:
    """Yield each candidate's chance to be the fastest within the budget.

    What never is, is told apart by its speed-up where it is within: less than one draw's weight.
    """
    base = table.recording.candidates.index(BASELINE)
    losses = told.accuracies[:, [base]] - told.accuracies
    speedups = np.where(told.is_trained & (losses <= budget + TIE), told.speedups, 0.0)
    firsts = np.bincount(speedups.argmax(axis=1), minlength=speedups.shape[1])
    rest = speedups.mean(axis=0) / (1.0 + speedups.max())
    return (firsts + rest) / len(speedups)
