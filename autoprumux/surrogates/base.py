"""The interface of surrogates: candidate to mean and standard deviation of one target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autoprumux.errors import UsageError
from autoprumux.records import Candidate


@dataclass(frozen=True)
class Prediction:
    """What a surrogate expects of one candidate, in the unit of its target."""

    mean: float
    std: float
    """Standard deviation of the true value around `mean`, in the same unit."""
    is_extrapolated: bool = False
    """True if no measured points surround the candidate."""


class Surrogate(Protocol):
    """Predicts one target; each class says which: accuracy, accuracy loss or log speed-up."""

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """Learn from `K` measured candidates and their values, forgetting earlier ones.

        Raises:
            UsageError: If lengths differ, a candidate occurs twice or a value isn't finite.
        """

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """Predict `M` candidates; `None` where the surrogate isn't defined."""


def check_points(candidates: Sequence[Candidate], values: Sequence[float]) -> None:
    """Refuse what no surrogate can learn from.

    Raises:
        UsageError: If lengths differ, a candidate occurs twice or a value isn't finite.
    """
    if len(candidates) != len(values):
        raise UsageError(f"Got {len(candidates)} candidates but {len(values)} values.")
    if len(set(candidates)) != len(candidates):
        raise UsageError("Every candidate must occur once; combine repeated measurements first.")
    for candidate, value in zip(candidates, values, strict=True):
        if not math.isfinite(value):
            raise UsageError(f"The value of {candidate} must be finite, got {value}.")
