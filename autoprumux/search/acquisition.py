"""What a candidate is worth: expected gain in the best feasible speed-up per predicted minute.

For a candidate with speed-up S and accuracy loss L (both uncertain, see `surrogates.performance`)
and the verified best speed-up v(b) within each budget b:

    gain = mean over b of  P(L <= b) * E[max(S - v(b), 0)]        score = gain / minutes
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoprumux.records import Candidate, Choice, Measurement
from autoprumux.surrogates.performance import PerformanceModel, PerformancePrediction

NEAR_TIE = 0.05
"""Scores that differ by at most this share count as equal, so that the noise of a throughput
measurement seldom changes the order of the trials; the smaller candidate goes first."""

_BORDER = 1e-9
"""A loss on the border of a budget is within it: 0.91 - 0.90 is above 0.01 in binary."""


@dataclass(frozen=True)
class Proposal:
    """A candidate with the reason for it."""

    candidate: Candidate
    choice: Choice


def verified_best(measured: Mapping[Candidate, Measurement], budget: float) -> float:
    """Yield the best measured speed-up within `budget`; 1, the baseline's own, at least."""
    baseline = next((m for c, m in measured.items() if c.is_baseline), None)
    if baseline is None:
        return 1.0
    within = (m for m in measured.values() if baseline.accuracy - m.accuracy <= budget + _BORDER)
    return max((m.speedup for m in within), default=1.0)


def rank_by_score(
    model: PerformanceModel,
    measured: Mapping[Candidate, Measurement],
    candidates: Sequence[Candidate],
    budgets: Sequence[float],
    minutes: Callable[[Candidate], float],
) -> list[Proposal]:
    """Yield all `candidates` with their reasons, the best first.

    Args:
        model: Fitted on `measured`.
        measured: Finished trials, the baseline among them.
        candidates: What may be chosen.
        budgets: Largest accuracy losses, fractions.
        minutes: Predicted minutes of a trial.
    """
    bests = [verified_best(measured, budget) for budget in budgets]
    loosest = max(budgets)

    def propose(candidate: Candidate, prediction: PerformancePrediction) -> Proposal:
        gain, cost = model.expected_gain(candidate, budgets, bests), minutes(candidate)
        chance = model.chance_within(candidate, loosest)
        choice = Choice(
            reason=f"chance {chance:.2f} to meet {100 * loosest:.1f} points, "
            f"gain {gain:.2f}x, about {cost:.1f} min",
            chance=chance,
            expected_speedup=prediction.speedup,
            expected_gain=gain,
            predicted_minutes=cost,
            score=gain / cost,
        )
        return Proposal(candidate, choice)

    predictions = model.predict(candidates)
    return _sort(propose(c, p) for c, p in zip(candidates, predictions, strict=True))


def chance_to_beat(
    model: PerformanceModel,
    measured: Mapping[Candidate, Measurement],
    candidates: Sequence[Candidate],
    budgets: Sequence[float],
    share: float,
) -> float:
    """Yield the largest chance, over candidates and budgets, to beat the best by `share`."""

    def chances() -> Iterator[float]:
        predictions = model.predict(candidates)
        for budget in budgets:
            best = verified_best(measured, budget) * (1 + share)
            for candidate, prediction in zip(candidates, predictions, strict=True):
                yield model.chance_within(candidate, budget) * chance_above(prediction, best)

    return max(chances(), default=0.0)


def chance_above(prediction: PerformancePrediction, speedup: float) -> float:
    """Yield the probability that the lognormal speed-up of `prediction` is above `speedup`."""
    margin = math.log(prediction.speedup / speedup)
    if prediction.log_speedup_std <= 0:
        return float(margin > 0)
    return math.erfc(-margin / (prediction.log_speedup_std * math.sqrt(2))) / 2


def _sort(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Yield proposals by falling score, near ties in order of the candidates."""
    rest = sorted(proposals, key=lambda p: (-_score(p), p.candidate))
    ordered: list[Proposal] = []
    while rest:
        lowest = _score(rest[0]) * (1 - NEAR_TIE)
        ties = [p for p in rest if _score(p) >= lowest]
        ordered.extend(sorted(ties, key=lambda p: p.candidate))
        rest = rest[len(ties) :]
    return ordered


def _score(proposal: Proposal) -> float:
    score = proposal.choice.score
    assert score is not None
    return score
