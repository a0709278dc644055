"""Which candidates to name first for a budget: in the paper's order, or by their chance to be it.

The paper ranks what is expected to be within the budget by speed-up. But the fastest model within
a budget is as a rule near its border, on either side: a candidate that is expected to miss it by a
little and is much faster may well be it, and one that is surely within it but slower than another
sure one can't. So ours ranks by the chance to be the fastest one within the budget, and the
fastest that is sure to be within is always among the first: chances that are all a little too high
leave it little, and then it is the best more often than they say.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate

Array = NDArray[np.float64]

NUM_PREDICTED = 3
"""The paper's top-k."""
TIE = 1e-9
"""A loss on the border of a budget is within it: 0.91 - 0.90 is above 0.01 in binary."""

_LEAST_CHANCE = 0.01
"""Candidates with less are left to the paper's order, as their own tells nothing."""
_NEGLIGIBLE = 1e-4


class Rankable(Protocol):
    """What the paper's ranking needs to know of a model, predicted or measured."""

    @property
    def candidate(self) -> Candidate:
        """Decides between models equal in the rest."""

    @property
    def accuracy(self) -> float:
        """Fraction."""

    @property
    def accuracy_loss(self) -> float:
        """Fraction."""

    @property
    def speedup(self) -> float:
        """Throughput over the dense baseline's."""


_Ranked = TypeVar("_Ranked", bound=Rankable)


class Place(NamedTuple):
    """A candidate's place in the paper's ranking; the best is the smallest."""

    negative_speedup: float
    negative_accuracy: float
    candidate: Candidate
    loss: float


class LikelyBest(NamedTuple):
    """A candidate that may be the best for a budget."""

    candidate: Candidate
    chance: float | None
    """That it is the fastest within the budget; None if nobody asked."""


def zeta(model: Rankable, budget: float) -> float:
    """The paper's objective (Su et al. 2023, section 4.3; reference-spec, section 7.1).

    `f_T g(f_A)`: the speed-up of a model that loses at most `budget` (a fraction), 0 of any other.
    At N = 1, at s = 0 and of the dense baseline both numbers are measured, elsewhere predicted.
    """
    return model.speedup if model.accuracy_loss <= budget + TIE else 0.0


def rank_predicted(predictions: Iterable[_Ranked], budget: float) -> list[_Ranked]:
    """The paper's ranking (reference-spec, section 7.4), the best first.

    Candidates by falling `zeta`, those of which it is 0 left out: predicted accuracy at least the
    baseline's less `budget`, by falling predicted speed-up; ties go to the higher accuracy, then
    to the smaller N.
    """
    scored = [(zeta(p, budget), p) for p in predictions]
    within = [(value, p) for value, p in scored if value > 0.0]
    return [p for _, p in sorted(within, key=lambda pair: (-pair[0], *_order(pair[1])))]


def rank_for_budgets(
    places: Sequence[Place],
    budgets: Sequence[float],
    measured: Container[Candidate],
    chances_within: Callable[[Sequence[Candidate], Sequence[float]], Array],
) -> list[list[LikelyBest]]:
    """Yield what `rank_likely` does for each budget.

    Args:
        places: Of all `K` candidates, in order.
        budgets: Largest accuracy losses, fractions.
        measured: Candidates of which it is known whether they are within.
        chances_within: Chances `(B, M)` that others are within each of the budgets.
    """
    losses = np.array([place.loss for place in places], dtype=np.float64)
    chances = (losses <= np.array(budgets)[:, None] + TIE).astype(np.float64)  # (B, K)
    open_ = [k for k, place in enumerate(places) if place.candidate not in measured]
    chances[:, open_] = chances_within([places[k].candidate for k in open_], budgets)
    return [
        rank_likely(places, losses, budget, of_budget)
        for budget, of_budget in zip(budgets, chances, strict=True)
    ]


def rank_likely(
    places: Sequence[Place], losses: Array, budget: float, chances: Array
) -> list[LikelyBest]:
    """Rank by the chance to be the fastest within the budget, the best first.

    Whether one candidate is within the budget says nothing of the others here, and all are as fast
    as expected. The fastest that is sure to be within takes the last place if its own chance gives
    it none. Where there are fewer than `NUM_PREDICTED`, the paper's ranking goes on.

    Args:
        places: Of all `K` candidates, in order.
        losses: `(K,)` their losses, as an array.
        budget: Largest accuracy loss, a fraction.
        chances: `(K,)` chance of each to be within the budget; 0 or 1 if that was measured.
    """
    left = np.cumprod(1.0 - chances)  # that none so far is within
    num = int(np.argmax(np.append(left, 0.0) < _NEGLIGIBLE)) + 1
    firsts = chances[:num] * np.append(1.0, left)[: len(chances[:num])]
    order = np.argsort(-firsts, kind="stable")
    likely = [
        LikelyBest(places[k].candidate, float(firsts[k]))
        for k in order[: NUM_PREDICTED + 1].tolist()
        if firsts[k] >= _LEAST_CHANCE
    ]
    for k in np.flatnonzero(chances[:num] >= 1.0).tolist():
        sure = LikelyBest(places[k].candidate, float(firsts[k]))
        if sure not in likely[:NUM_PREDICTED]:
            likely = [*likely[: NUM_PREDICTED - 1], sure]
    if len(likely) < NUM_PREDICTED:
        named = {found.candidate for found in likely}
        within = np.flatnonzero(losses <= budget + TIE)[: 2 * NUM_PREDICTED].tolist()
        likely += [
            LikelyBest(places[k].candidate, float(firsts[k]) if k < len(firsts) else 0.0)
            for k in within
            if places[k].candidate not in named
        ]
    return likely[:NUM_PREDICTED]


def _order(model: Rankable) -> tuple[float, float, Candidate]:
    return (-model.speedup, -model.accuracy, model.candidate)
