"""Curves that accuracy losses may follow, drawn from what is published.

Symbols: `x = log2 N / log2 10` and `c = log(1 - s) / log 0.05`, both 1 at (10, 0.95); `E` curves,
`M` candidates. A multiplexing part `w = m x^u` and a pruning part `p c^v` add up to

    loss = (w^r + (p c^v)^r)^(1/r) + q x c - h

at least 0 and at most `k`; beyond `x + c = t` training collapses. `r = 1` adds, a large `r` lets
the larger part alone count; a large `v` is a knee.

Constants (reference-spec, sections 3.4 and 7 and Appendix B): BERT-base loses about 2, 5 and 8
points at N = 2, 5 and 10 and 4 to 5 points at s = 0.95, most of it after s = 0.8; losses are
"loosely additive"; of the 24 multiplexed and pruned trials a few collapsed, at the far corner.
Small models lose several times as much, so the spread is wide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate

Array = NDArray[np.float64]

NUM_CURVES = 3000
"""More of them follow the measured points more closely, and take longer."""
_BENT_SHARE = 0.15
"""Of the curves: those that need not add and may have knees and floors anywhere."""
_SEED = 20230713


@dataclass(frozen=True, kw_only=True)
class LossCurves:
    """`E` curves; every parameter is `(E,)`."""

    log_m: Array
    u: Array
    log_p: Array
    v: Array
    q: Array
    h: Array
    k: Array
    t: Array
    r: Array

    @staticmethod
    @lru_cache(maxsize=1)
    def published() -> "LossCurves":
        """Curves that are likely before anything is measured; the same ones every time."""
        rng = np.random.default_rng(_SEED)
        num_bent = int(NUM_CURVES * _BENT_SHARE)
        return _joined(_additive(NUM_CURVES - num_bent, rng), _bent(num_bent, rng))

    def __len__(self) -> int:
        """Number of curves."""
        return len(self.r)

    def __getitem__(self, chosen: NDArray[np.int64]) -> "LossCurves":
        """Curves of these numbers, `(T,)`."""
        return LossCurves(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def losses(self, candidates: Sequence[Candidate]) -> Array:
        """Losses of trained models, fractions, `(E, M)`.

        Powers are taken once for each width and sparsity, of which a grid has few.
        """
        x, c = places(candidates)
        widths, row = np.unique(x, return_inverse=True)
        pruned, column = np.unique(c, return_inverse=True)
        with np.errstate(divide="ignore"):
            log_x, log_c = np.log(widths), np.log(pruned)
        multiplexing = np.exp(self.log_m[:, None] + np.outer(self.u, log_x))[:, row]
        pruning = np.exp(self.log_p[:, None] + np.outer(self.v, log_c))[:, column]
        losses = multiplexing + pruning
        (bent,) = np.nonzero(self.r != 1.0)
        r = self.r[bent, None]
        larger = np.maximum(multiplexing[bent], pruning[bent])
        ratio = np.minimum(multiplexing[bent], pruning[bent]) / np.maximum(larger, 1e-300)
        losses[bent] = larger * (1.0 + ratio**r) ** (1.0 / r)
        losses += np.outer(self.q, x * c)
        losses -= self.h[:, None]
        np.maximum(losses, 0.0, out=losses)
        np.minimum(losses, self.k[:, None], out=losses)
        return np.asarray(losses, dtype=np.float64)

    def collapses(self, candidates: Sequence[Candidate]) -> NDArray[np.bool_]:
        """Which candidates collapse, `(E, M)`."""
        x, c = places(candidates)
        return np.asarray((x + c)[None, :] > self.t[:, None], dtype=np.bool_)

    def num_collapses(self, candidates: Sequence[Candidate]) -> NDArray[np.int64]:
        """How many of the candidates collapse, `(E,)`."""
        x, c = places(candidates)
        kept = np.searchsorted(np.sort(x + c), self.t, side="right")
        return np.asarray(len(x) - kept, dtype=np.int64)


def places(candidates: Sequence[Candidate]) -> tuple[Array, Array]:
    """`x` and `c` of each candidate, `(M,)` both."""
    pairs = [(c.num_instances, 1.0 - c.sparsity) for c in candidates]
    widths, dense = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return np.log(widths) / np.log(10.0), np.log(dense) / np.log(0.05)


def _additive(num: int, rng: np.random.Generator) -> LossCurves:
    """Draw curves whose parts add, as in the paper."""
    return LossCurves(
        log_m=np.log(0.09) + 0.65 * rng.standard_normal(num),
        u=rng.uniform(0.7, 1.9, num),
        log_p=np.log(0.06) + 0.65 * rng.standard_normal(num),
        v=rng.uniform(1.4, 4.7, num),
        q=rng.uniform(0.0, 0.06, num),
        h=_sometimes(0.5, rng.uniform(0.0, 0.01, num), 0.0, rng),
        k=_sometimes(0.15, rng.uniform(0.05, 0.30, num), np.inf, rng),
        t=_sometimes(0.4, rng.uniform(1.3, 1.9, num), np.inf, rng),
        r=np.ones(num),
    )


def _bent(num: int, rng: np.random.Generator) -> LossCurves:
    """Draw curves that surprise: of other models, other data, other recipes."""
    return LossCurves(
        log_m=np.log(0.10) + 0.8 * rng.standard_normal(num),
        u=rng.uniform(0.2, 2.5, num),
        log_p=np.log(0.06) + 0.9 * rng.standard_normal(num),
        v=np.exp(rng.uniform(np.log(1.4), np.log(16.0), num)),
        q=np.zeros(num),
        h=_sometimes(0.5, rng.uniform(0.0, 0.01, num), 0.0, rng),
        k=_sometimes(0.6, rng.uniform(0.05, 0.40, num), np.inf, rng),
        t=_sometimes(0.1, rng.uniform(1.3, 1.9, num), np.inf, rng),
        r=_sometimes(0.6, rng.uniform(1.0, 6.0, num), 1.0, rng),
    )


def _sometimes(chance: float, values: Array, otherwise: float, rng: np.random.Generator) -> Array:
    return np.where(rng.random(len(values)) < chance, values, otherwise)


def _joined(one: LossCurves, other: LossCurves) -> LossCurves:
    columns = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in fields(LossCurves)}
    return LossCurves(**{name: np.concatenate(pair) for name, pair in columns.items()})
