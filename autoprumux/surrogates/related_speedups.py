"""What other tasks' studies of the same model and device tell of a task's log speed-ups.

Symbols: `y_t(c) = y(c) + e_t(c)`, what all tasks share and how far task t is off, which is
independent between candidates: pruning leaves another shape each time. `sd(c)`, the standard
deviation of `e_t(c)`, is larger where little is left of the model. Each candidate's is told by how
its own studies differ and, the less the further away, by those of other candidates.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.residual import coordinates, correlation

Array = NDArray[np.float64]

_LEAST_STD, _TYPICAL_STD, _WEIGHT = 0.03, 0.08, 2.0
"""The least `sd`, the one expected before studies are compared, and the number of differences that
this counts as."""


class OtherSpeedups:
    """Log speed-ups that other studies share.

    Args:
        studies: Of each the log speed-ups by candidate; empty if they were measured on another
            device.
    """

    def __init__(self, studies: Sequence[Mapping[Candidate, float]]) -> None:
        found: dict[Candidate, list[float]] = {}
        for study in studies:
            for candidate, value in study.items():
                if not candidate.is_baseline:
                    found.setdefault(candidate, []).append(value)
        self.means = {candidate: float(np.mean(values)) for candidate, values in found.items()}
        """Mean log speed-up of each candidate that any study measured."""
        self._places = coordinates(list(found))
        self._counts = np.array([len(values) for values in found.values()], dtype=np.float64)
        variances = [float(np.var(values)) for values in found.values()]
        self._squares = self._counts * np.array(variances, dtype=np.float64)
        errors = self.stds(list(self.means)) / np.sqrt(self._counts)
        self.errors = dict(zip(self.means, errors.tolist(), strict=True))
        """Standard deviation of each mean around what all tasks share."""

    def stds(self, candidates: Sequence[Candidate]) -> Array:
        """`sd` of `M` candidates, `(M,)`; 0 if no study tells a speed-up."""
        if not self.means:
            return np.zeros(len(candidates))
        near = correlation(coordinates(candidates), self._places)  # (M, K)
        told = _WEIGHT * _TYPICAL_STD**2 + near @ self._squares
        variances = told / (_WEIGHT + near @ (self._counts - 1.0))  # a mean was fitted to each
        return np.asarray(np.sqrt(np.maximum(variances, _LEAST_STD**2)), dtype=np.float64)
