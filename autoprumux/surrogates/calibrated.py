"""Speed-ups expected of candidates that nobody has trained, from a calibration of the device.

A calibration predicts the speed of a known structure (`structure_latency`). Which one pruning will
leave is not known before, but such as it leaves can be drawn (`pruned_shapes`): their mean log
speed-up is what is expected of (N, s). It takes the place of the law of latency before anything is
measured; what measured models deviate from it is learnt as what they deviate from that law.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Calibration, Candidate
from autoprumux.surrogates.latency import LatencySurrogate
from autoprumux.surrogates.pruned_shapes import likely_shapes
from autoprumux.surrogates.structure_latency import StructureLatency

Array = NDArray[np.float64]

_DOUBT = 0.3
"""How far the parameters of the law may be off, as a share of what is not known without."""
_NODES = np.append(np.arange(20) / 20, 0.99)
"""Sparsities of which shapes are drawn; between them log speed-ups are interpolated, beyond
the last they are its own."""
_REFERENCE = tuple(Candidate(n, s) for n in (1, 2, 5, 10) for s in (0.0, 0.6, 0.8, 0.9, 0.95))
"""Where the law of latency is fitted, for its derivatives."""


class CalibratedSpeeds:
    """Log speed-ups of candidates by one calibration, for `SpeedupModel`.

    Args:
        calibration: Of the device in one setting, for the encoder in question.
        length: Tokens in a sequence, in that setting.
    """

    def __init__(self, calibration: Calibration, length: int) -> None:
        self.profile = calibration.profile
        """Name of the device profile that it was stored under."""
        self._encoder = calibration.encoder
        self._by_structure = StructureLatency.stored(calibration, length)
        self._by_width: dict[int, Array] = {}
        """`(len(_NODES),)` log speed-ups."""
        self._law = LatencySurrogate()
        points = [c for c in _REFERENCE if not c.is_baseline]
        self._law.fit(points, self.expected(points).tolist())

    @property
    def prior_covariance(self) -> Array:
        """Of the parameters of the law of latency, `(3, 3)`."""
        return _DOUBT**2 * self._law.prior_covariance

    def expected(self, candidates: Sequence[Candidate]) -> Array:
        """Yield mean log speed-ups of shapes that `M` candidates may have, `(M,)`."""
        widths = np.array([c.num_instances for c in candidates], dtype=np.int64)
        left = -np.log1p(-np.array([c.sparsity for c in candidates], dtype=np.float64))
        means = np.empty(len(candidates))
        for width in np.unique(widths).tolist():
            if width not in self._by_width:
                self._by_width[width] = self._at_nodes(width)
            own = widths == width
            means[own] = np.interp(left[own], -np.log1p(-_NODES), self._by_width[width])
        return means

    def linear(self, candidates: Sequence[Candidate]) -> tuple[Array, Array]:
        """Yield what is expected of `M` candidates, `(M,)`, and its derivative, `(M, 3)`.

        See `LatencySurrogate.linear`.
        """
        _, jacobian = self._law.linear(candidates)
        return self.expected(candidates), jacobian

    def _at_nodes(self, num_instances: int) -> Array:
        shapes = [likely_shapes(self._encoder, float(sparsity)) for sparsity in _NODES]
        wide = [replace(s, num_instances=num_instances) for some in shapes for s in some]
        means = np.array([prediction.mean for prediction in self._by_structure.predict(wide)])
        ends = np.cumsum([len(some) for some in shapes])
        return np.array([part.mean() for part in np.split(means, ends[:-1])])


@lru_cache(maxsize=8)
def calibrated_speeds(calibration: Calibration, length: int) -> CalibratedSpeeds:
    """Yield the speeds of a calibration, the same object for the same one."""
    return CalibratedSpeeds(calibration, length)
