"""Which candidates to name first for a budget: in the paper's order, or by their chance to be it.

The paper ranks what is expected to be within the budget by speed-up. But the fastest model within
a budget is as a rule near its border, on either side: a candidate that is expected to miss it by a
little and is much faster may well be it, and one that is surely within it but slower than another
sure one can't. So ours ranks by the chance to be the fastest one within the budget, and the
fastest that is sure to be within is always among the first: chances that are all a little too high
leave it little, and then it is the best more often than they say.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from autoprumux.records import Candidate

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


def rank_predicted(predictions: Iterable[_Ranked], budget: float) -> list[_Ranked]:
    """The paper's ranking (reference-spec, section 7.4), the best first.

    Candidates whose predicted accuracy is at least the baseline's less `budget`, by falling
    predicted speed-up; ties go to the higher accuracy, then to the smaller N.
    """
    within = [p for p in predictions if p.accuracy_loss <= budget + TIE]
    return sorted(within, key=_order)


def rank_likely(
    places: Sequence[Place], budget: float, chance_within: Callable[[Candidate, float], float]
) -> list[LikelyBest]:
    """Rank by the chance to be the fastest within the budget, the best first.

    Whether one candidate is within the budget says nothing of the others here, and all are as fast
    as expected. The fastest that is sure to be within takes the last place if its own chance gives
    it none. Where there are fewer than `NUM_PREDICTED`, the paper's ranking goes on.

    Args:
        places: Of all candidates, in order.
        budget: Largest accuracy loss, a fraction.
        chance_within: Chance that a candidate is within a budget; 0 or 1 if that was measured.
    """
    left, chances, sure = 1.0, dict[Candidate, float](), None
    for place in places:
        chance = chance_within(place.candidate, budget)
        if chance > 0.0:
            chances[place.candidate] = left * chance
        left *= 1.0 - chance
        if chance >= 1.0:
            sure = LikelyBest(place.candidate, chances[place.candidate])
        if left < _NEGLIGIBLE:
            break
    likely = [
        LikelyBest(candidate, chance)
        for candidate, chance in sorted(chances.items(), key=lambda item: -item[1])
        if chance >= _LEAST_CHANCE
    ]
    if sure and sure not in likely[:NUM_PREDICTED]:
        likely = [*likely[: NUM_PREDICTED - 1], sure]
    if len(likely) < NUM_PREDICTED:
        named = {found.candidate for found in likely}
        likely += [
            LikelyBest(place.candidate, chances.get(place.candidate, 0.0))
            for place in places
            if place.loss <= budget + TIE and place.candidate not in named
        ]
    return likely[:NUM_PREDICTED]


def _order(model: Rankable) -> tuple[float, float, Candidate]:
    return (-model.speedup, -model.accuracy, model.candidate)
