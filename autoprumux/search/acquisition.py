"""What a candidate is worth: gain in the best feasible speed-up and chance to be it, for its cost.

For a candidate with speed-up S and accuracy loss L (both uncertain, see `surrogates.performance`)
and the verified best speed-up v(b) within each budget b:

    log_gain    = mean over b of  P(L <= b) * E[max(log(S / v(b)), 0)]
    chance_best = mean over b of  P(L <= b) * product over all faster ones of P(L > b)
    score       = log_gain^(1 - w) * chance_best^w / minutes^c

All four are stored with a choice (`Choice`), so that the score can be computed from them.

The gain is a ratio, so that every budget counts alike: counted in multiples of the baseline, a
hardly possible model of 30 times its speed hides a likely one of 3 times. It looks one trial ahead
and so likes small safe steps; the chance, with which the fastest one left is found, counters that.
S is at most the speed-up of any measured candidate with at least the same N and s.

With c = 1 cheap candidates that teach little go first: a sparsity of a width that is trained
already, where another width would tell more. That costs trials and hardly saves minutes in the end
(Lee et al. 2020, "Cost-aware Bayesian optimization", find the same of expected improvement).

While other processes train candidates that may become the best, v(b) is what they may find: the
fastest of them that will be within the budget, by their chances, as if those were independent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate, Choice, Measurement, RunnerUp
from autoprumux.surrogates.forecasts import normal_cdf
from autoprumux.surrogates.performance import PerformancePrediction

Array = NDArray[np.float64]

_CHANCE_WEIGHT = 1.0 / 3.0
"""`w`. With 0 the best within a budget is found after a median of 5 trials instead of 4 (tuning
family of `benchmarks/search.py`)."""

COST_POWER = 0.5
"""`c`. Searches of recorded grids need fewer trials than with 1, and as many minutes to within 2 %
(`benchmarks/cost_power.py`)."""

NEAR_TIE = 0.05
"""Scores that differ by at most this share count as equal, so that the noise of a throughput
measurement seldom changes the order of the trials; the smaller candidate goes first."""

_BORDER = 1e-9
"""A loss on the border of a budget is within it: 0.91 - 0.90 is above 0.01 in binary."""


class Predictor(Protocol):
    """Predicts candidates: a `PerformanceModel`, with hyperparameters a `SettingModel`."""

    def predict(self, candidates: Sequence[Candidate]) -> list[PerformancePrediction]:
        """Predict `M` candidates, in their order."""

    def chances_within(self, candidates: Sequence[Candidate], budgets: Sequence[float]) -> Array:
        """Chances `(B, M)` that losses are at most each of `B` budgets (fractions)."""


@dataclass(frozen=True)
class Proposal:
    """A candidate with the reason for it."""

    candidate: Candidate
    choice: Choice


def verified_best(measured: Mapping[Candidate, Measurement], budget: float) -> float:
    """Yield the best measured speed-up within `budget`; 1, the baseline's own, at least."""
    return verified_bests(measured, [budget])[0]


def verified_bests(
    measured: Mapping[Candidate, Measurement], budgets: Sequence[float]
) -> list[float]:
    """Yield the best measured speed-up within each budget; see `verified_best`."""
    baseline = next((m for c, m in measured.items() if c.is_baseline), None)
    if baseline is None:
        return [1.0] * len(budgets)
    pairs = [(m.accuracy, m.throughput.speedup) for m in measured.values()]
    accuracies, speedups = np.array(pairs, dtype=np.float64).T
    losses = baseline.accuracy - accuracies
    within = (speedups[losses <= budget + _BORDER] for budget in budgets)
    return [float(found.max()) if len(found) else 1.0 for found in within]


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
    predictions = model.predict([*candidates, *pending])
    within = model.chances_within([*candidates, *pending], budgets)  # (B, M and those pending)
    num = len(candidates)
    bests = [
        _bests_to_come(predictions[num:], chances[num:], best)
        for chances, best in zip(within, verified_bests(measured, budgets), strict=True)
    ]
    firsts = _chances_to_be_fastest([p.speedup for p in predictions], within).mean(axis=0).tolist()
    gains = [0.0] * num  # of those that meet no budget
    for m in np.flatnonzero(within[:, :num].any(axis=0)).tolist():
        gains[m] = _log_gain_of(predictions[m], within[:, m], bests)
    costs = [minutes(candidate) for candidate in candidates]
    loosest = budgets.index(max(budgets))

    def propose(m: int) -> Proposal:
        chance, gain, cost = float(within[loosest, m]), gains[m], costs[m]
        choice = Choice(
            reason=f"chance {chance:.2f} to meet {100 * budgets[loosest]:.1f} points, "
            f"gain {math.exp(gain):.2f}x, about {cost:.1f} min",
            chance=chance,
            chance_best=firsts[m],
            expected_speedup=predictions[m].speedup,
            expected_gain=math.exp(gain),
            log_gain=gain,
            predicted_minutes=cost,
            score=scores[m],
        )
        return Proposal(candidates[m], choice)

    scores = [
        gain and gain ** (1.0 - _CHANCE_WEIGHT) * first**_CHANCE_WEIGHT / cost**COST_POWER
        for gain, first, cost in zip(gains, firsts[:num], costs, strict=True)
    ]
    return [propose(m) for m in _order(candidates, scores)]


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
    if not candidates:
        return 0.0
    predictions = model.predict(candidates)
    within = model.chances_within(candidates, budgets)
    bests = [best * (1 + share) for best in verified_bests(measured, budgets)]
    chances = (
        float(within[b, m]) * chance_above(predictions[m], bests[b])
        for b, m in zip(*np.nonzero(within), strict=True)
    )
    return max(chances, default=0.0)


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


def _log_gain_of(
    prediction: PerformancePrediction,
    within: Array,
    bests: Sequence[Sequence[tuple[float, float]]],
) -> float:
    """Yield the mean over `(B,)` budgets of the chance to meet it times the expected gain then.

    Args:
        prediction: Of the candidate.
        within: Its chances to meet the budgets.
        bests: Per budget what may be the best speed-up, with chances.
    """
    gains: list[float] = [
        chance and chance * sum(share * expected_log_gain(prediction, b) for b, share in to_come)
        for chance, to_come in zip(within.tolist(), bests, strict=True)
    ]
    return sum(gains) / len(gains)


def _chances_to_be_fastest(speedups: Sequence[float], within: Array) -> Array:
    """Yield each one's chance to be the fastest within a budget, as if chances were independent.

    Args:
        speedups: Of `M` candidates.
        within: `(B, M)` chances to be within the budgets.
    """
    order = np.argsort(-np.array(speedups), kind="stable")
    falling = within[:, order]
    rest = np.cumprod(1.0 - falling, axis=1)
    found = np.empty_like(within)
    found[:, order] = falling * np.hstack([np.ones((len(within), 1)), rest[:, :-1]])
    return found


def _bests_to_come(
    pending: Sequence[PerformancePrediction], within: Array, best: float
) -> list[tuple[float, float]]:
    """Yield what may be the best speed-up within a budget once `pending` is measured: chances.

    Args:
        pending: Predictions.
        within: Their chances to be within the budget.
        best: Verified best speed-up within it.
    """
    rest, found = 1.0, []
    chances = zip(pending, within.tolist(), strict=True)
    faster = [(p.speedup, chance) for p, chance in chances if p.speedup > best]
    for speedup, chance in sorted(faster, key=lambda pair: -pair[0]):
        found.append((speedup, rest * chance))
        rest *= 1.0 - chance
    return [*found, (best, rest)]


def _order(candidates: Sequence[Candidate], scores: Sequence[float]) -> list[int]:
    """Yield the places of candidates by falling score, near ties in order of the candidates."""
    by_candidate = sorted(range(len(candidates)), key=candidates.__getitem__)
    rest = sorted(by_candidate, key=lambda place: -scores[place])
    rank = {place: number for number, place in enumerate(by_candidate)}
    ordered: list[int] = []
    while rest:
        lowest = scores[rest[0]] * (1 - NEAR_TIE)
        num_ties = next((k for k, m in enumerate(rest) if scores[m] < lowest), len(rest))
        ordered.extend(sorted(rest[:num_ties], key=rank.__getitem__))
        rest = rest[num_ties:]
    return ordered


def _as_runner_up(proposal: Proposal) -> RunnerUp:
    choice = proposal.choice
    numbers = {f.name: getattr(choice, f.name) for f in fields(RunnerUp) if f.name != "candidate"}
    return RunnerUp(candidate=proposal.candidate, **numbers)
