"""The paper's Table 3: is the fastest model within a budget among the three predicted fastest?

N = 1 and s = 0 count as measured (reference-spec, section 7.1); the dense baseline is always
within the budget. Ties go to the higher accuracy, then to the smaller N.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autoprumux.ranking import NUM_PREDICTED, rank_predicted
from autoprumux.records import Candidate
from autoprumux.surrogates.pairs import SurrogatePair
from autoprumux.validation.grid import MeasuredGrid, is_inner

BUDGETS = tuple(half_points / 200 for half_points in range(21))
"""0, 0.5, ... 10 points."""

_DIGITS = 9
"""Of a speed-up: `exp(log 3)` is above 3 in binary, and would win a tie."""


@dataclass(frozen=True, kw_only=True)
class HitRow:
    """A row of Table 3."""

    surrogate: str
    points: Literal["all", "unseen"]
    """Of all measured candidates, or of the baseline and the unseen ones alone."""
    hits: tuple[bool, ...]
    """Per budget: the fastest measured model within it is among the predicted three."""
    is_baseline_best: tuple[bool, ...]
    """Per budget: no faster model is within it."""


def hit_row(pair: SurrogatePair, grid: MeasuredGrid, points: Literal["all", "unseen"]) -> HitRow:
    """Yield the row of one pair of surrogates."""
    unseen = [c for c in grid.measured if c.is_baseline] + grid.unseen
    asked = list(grid.measured) if points == "all" else unseen
    predicted = _predicted(pair, grid, asked)
    bests = [rank_predicted(_measured(grid, asked), b)[0].candidate for b in BUDGETS]
    tops = [rank_predicted(predicted, budget)[:NUM_PREDICTED] for budget in BUDGETS]
    return HitRow(
        surrogate=pair.name,
        points=points,
        hits=tuple(
            any(model.candidate == best for model in top)
            for best, top in zip(bests, tops, strict=True)
        ),
        is_baseline_best=tuple(best.is_baseline for best in bests),
    )


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A candidate as the ranking sees it."""

    candidate: Candidate
    accuracy: float
    accuracy_loss: float
    speedup: float


def _measured(grid: MeasuredGrid, candidates: Sequence[Candidate]) -> list[_Model]:
    return [
        _Model(
            candidate=candidate,
            accuracy=grid.measured[candidate].accuracy,
            accuracy_loss=grid.baseline_accuracy - grid.measured[candidate].accuracy,
            speedup=round(grid.measured[candidate].speedup, _DIGITS),
        )
        for candidate in candidates
    ]


def _predicted(
    pair: SurrogatePair, grid: MeasuredGrid, candidates: Sequence[Candidate]
) -> list[_Model]:
    """Yield measured edges and predicted inner candidates; undefined ones cannot be ranked."""
    inner = [candidate for candidate in candidates if is_inner(candidate)]
    accuracies = pair.accuracies(grid.fitted, inner)
    log_speedups = pair.log_speedups(grid.fitted, inner)
    return [
        *_measured(grid, [c for c in candidates if not is_inner(c)]),
        *(
            _Model(
                candidate=candidate,
                accuracy=accuracy.mean,
                accuracy_loss=grid.baseline_accuracy - accuracy.mean,
                speedup=round(math.exp(log_speedup.mean), _DIGITS),
            )
            for candidate, accuracy, log_speedup in zip(
                inner, accuracies, log_speedups, strict=True
            )
            if accuracy is not None and log_speedup is not None
        ),
    ]
