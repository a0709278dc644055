"""What a candidate is worth: gain in the best feasible speed-up and chance to be it, per minute.

For a candidate with speed-up S and accuracy loss L (both uncertain, see `surrogates.performance`)
and the verified best speed-up v(b) within each budget b:

    log_gain    = mean over b of  P(L <= b) * E[max(log(S / v(b)), 0)]
    chance_best = mean over b of  P(L <= b) * product over all faster ones of P(L > b)
    score       = log_gain^(1 - w) * chance_best^w / minutes

All four are stored with a choice (`Choice`), so that the score can be computed from them.

The gain is a ratio, so that every budget counts alike: counted in multiples of the baseline, a
hardly possible model of 30 times its speed hides a likely one of 3 times. It looks one trial ahead
and so likes small safe steps; the chance, with which the fastest one left is found, counters that.
S is at most the speed-up of any measured candidate with at least the same N and s.

While other processes train candidates that may become the best, v(b) is what they may find: the
fastest of them that will be within the budget, by their chances, as if those were independent.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Protocol

from autoprumux.records import Candidate, Choice, Measurement, RunnerUp
from autoprumux.surrogates.forecasts import normal_cdf
from autoprumux.surrogates.performance import PerformancePrediction

_CHANCE_WEIGHT = 1.0 / 3.0
"""`w`. With 0 the best within a budget is found after a median of 5 trials instead of 4 (tuning
family of `benchmarks/search.py`)."""

NEAR_TIE = 0.05
"""Scores that differ by at most this share count as equal, so that the noise of a throughput
measurement seldom changes the order of the trials; the smaller candidate goes first."""

_BORDER = 1e-9
"""A loss on the border of a budget is within it: 0.91 - 0.90 is above 0.01 in binary."""


class Predictor(Protocol):
    """Predicts candidates: a `PerformanceModel`, with hyperparameters a `SettingModel`."""

    def predict(self, candidates: Sequence[Candidate]) -> list[PerformancePrediction]:
        """Predict `M` candidates, in their order."""

    def chance_within(self, candidate: Candidate, budget: float) -> float:
        """Probability that the accuracy loss of `candidate` is at most `budget` (a fraction)."""


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
    model: Predictor,
    measured: Mapping[Candidate, Measurement],
    candidates: Sequence[Candidate],
    budgets: Sequence[float],
    minutes: Callable[[Candidate], float],
    pending: Sequence[Candidate] = (),
) -> list[Proposal]:
    """Yield all `candidates` with their reasons, the best first.

    Args:
        model: Fitted on `measured`.
        measured: Finished trials, the baseline among them.
        candidates: What may be chosen.
        budgets: Largest accuracy losses, fractions.
        minutes: Predicted minutes of a trial.
        pending: What other processes train.
    """
    bests = [_bests_to_come(model, measured, pending, budget) for budget in budgets]
    loosest = budgets.index(max(budgets))
    predictions = model.predict(candidates)
    within = [
        {c: model.chance_within(c, budget) for c in [*candidates, *pending]} for budget in budgets
    ]
    rivals = sorted([*predictions, *model.predict(pending)], key=lambda p: -p.speedup)
    firsts = [_chances_to_be_fastest(rivals, chances) for chances in within]

    def propose(candidate: Candidate, prediction: PerformancePrediction) -> Proposal:
        gain = fmean(
            chances[candidate]
            * sum(share * expected_log_gain(prediction, best) for best, share in to_come)
            for chances, to_come in zip(within, bests, strict=True)
        )
        chance_best = fmean(chances[candidate] for chances in firsts)
        chance, cost = within[loosest][candidate], minutes(candidate)
        choice = Choice(
            reason=f"chance {chance:.2f} to meet {100 * budgets[loosest]:.1f} points, "
            f"gain {math.exp(gain):.2f}x, about {cost:.1f} min",
            chance=chance,
            chance_best=chance_best,
            expected_speedup=prediction.speedup,
            expected_gain=math.exp(gain),
            log_gain=gain,
            predicted_minutes=cost,
            score=gain ** (1.0 - _CHANCE_WEIGHT) * chance_best**_CHANCE_WEIGHT / cost,
        )
        return Proposal(candidate, choice)

    return _sort(propose(c, p) for c, p in zip(candidates, predictions, strict=True))


def with_runners_up(proposal: Proposal, others: Sequence[Proposal]) -> Proposal:
    """Yield `proposal` with the candidates that would have come next; those without a score not.

    A choice whose order follows no score has none to compare.
    """
    runners_up = tuple(_as_runner_up(other) for other in others if other.choice.score is not None)
    return replace(proposal, choice=replace(proposal.choice, runners_up=runners_up))


def chance_to_beat(
    model: Predictor,
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


def expected_log_gain(prediction: PerformancePrediction, best: float) -> float:
    """Yield E[max(log(S / best), 0)] of a lognormal speed-up S (Jones et al. 1998, eq. 15).

    A speed-up above the most that `prediction` may have counts as that: a model that is no larger
    than a measured one is no faster, however little is known of its speed.
    """
    most = prediction.most_speedup
    if most <= best:
        return 0.0
    beyond = _log_gain(prediction, most) if math.isfinite(most) else 0.0
    return max(0.0, _log_gain(prediction, best) - beyond)


def chance_above(prediction: PerformancePrediction, speedup: float) -> float:
    """Yield the probability that the lognormal speed-up of `prediction` is above `speedup`.

    It is 0 from the most that `prediction` may have on.
    """
    if speedup >= prediction.most_speedup:
        return 0.0
    return normal_cdf(math.log(prediction.speedup / speedup), prediction.log_speedup_std)


def _log_gain(prediction: PerformancePrediction, best: float) -> float:
    margin, std = math.log(prediction.speedup / best), prediction.log_speedup_std
    if std <= 0:
        return max(margin, 0.0)
    density = math.exp(-((margin / std) ** 2) / 2) / math.sqrt(2 * math.pi)
    return max(0.0, margin * normal_cdf(margin, std) + std * density)


def _chances_to_be_fastest(
    predictions: Sequence[PerformancePrediction], within: Mapping[Candidate, float]
) -> dict[Candidate, float]:
    """Yield each one's chance to be the fastest within a budget, as if chances were independent.

    Args:
        predictions: By falling speed-up.
        within: Chance of each to be within the budget.
    """
    rest, found = 1.0, {}
    for prediction in predictions:
        chance = within[prediction.candidate]
        found[prediction.candidate] = rest * chance
        rest *= 1.0 - chance
    return found


def _bests_to_come(
    model: Predictor,
    measured: Mapping[Candidate, Measurement],
    pending: Sequence[Candidate],
    budget: float,
) -> list[tuple[float, float]]:
    """Yield what may be the best speed-up within a budget once `pending` is measured: chances."""
    best, rest, found = verified_best(measured, budget), 1.0, []
    faster = [p for p in model.predict(pending) if p.speedup > best]
    for prediction in sorted(faster, key=lambda p: -p.speedup):
        chance = model.chance_within(prediction.candidate, budget)
        found.append((prediction.speedup, rest * chance))
        rest *= 1.0 - chance
    return [*found, (best, rest)]


def _sort(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Yield proposals by falling score, near ties in order of the candidates."""
    rest = sorted(proposals, key=lambda p: (-_score(p), p.candidate))
    ordered: list[Proposal] = []
    while rest:
        lowest = _score(rest[0]) * (1 - NEAR_TIE)
        num_ties = next((k for k, p in enumerate(rest) if _score(p) < lowest), len(rest))
        ordered.extend(sorted(rest[:num_ties], key=lambda p: p.candidate))
        rest = rest[num_ties:]
    return ordered


def _as_runner_up(proposal: Proposal) -> RunnerUp:
    choice = proposal.choice
    numbers = {f.name: getattr(choice, f.name) for f in fields(RunnerUp) if f.name != "candidate"}
    return RunnerUp(candidate=proposal.candidate, **numbers)


def _score(proposal: Proposal) -> float:
    score = proposal.choice.score
    assert score is not None
    return score
