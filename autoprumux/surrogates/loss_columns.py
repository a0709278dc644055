"""Losses of many curves at a candidate, each computed once.

A search fits after every trial, to the same points and one more.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.curves import LossCurves

Array = NDArray[np.float64]

_MOST = 256
"""Candidates that are remembered, 24 kB each; more than a model is fitted to."""


class LossColumns:
    """What `E` curves say of candidates.

    Args:
        curves: The curves.
    """

    def __init__(self, curves: LossCurves) -> None:
        self.curves = curves
        self._known: dict[Candidate, Array] = {}

    @staticmethod
    @lru_cache(maxsize=1)
    def published() -> "LossColumns":
        """Those of `LossCurves.published`."""
        return LossColumns(LossCurves.published())

    def at(self, candidates: Sequence[Candidate]) -> Array:
        """Losses of trained models, fractions, `(K, E)`."""
        new = [c for c in candidates if c not in self._known]
        found = dict(zip(new, self.curves.losses(new).T, strict=True)) if new else {}
        rows = [found[c] if c in found else self._known[c] for c in candidates]
        self._remember(found)
        shape = (len(rows), len(self.curves))
        return np.stack(rows) if rows else np.empty(shape)

    def _remember(self, found: dict[Candidate, Array]) -> None:
        for candidate, column in found.items():
            self._known[candidate] = np.ascontiguousarray(column)
        for candidate in list(self._known)[: max(len(self._known) - _MOST, 0)]:
            del self._known[candidate]
