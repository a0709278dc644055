"""Log speed-up of every candidate: the latency law and what measured points deviate from it.

Symbols: `y(c) = law(c; z) + f(c) + e(c)`, the law linear in its parameters `z` around their best
fit; `f` is smooth, a Gaussian process with the correlation of `residual` that is 0 at the dense
baseline; `e` is rough, independent between candidates: at high sparsity a model is as fast as the
shape that it happens to keep. How much a study deviates, `sd`, and which share of its variance is
rough, `rho`, is not known before; each of several pairs counts by how likely it makes what is
measured (Bayesian model averaging, Hoeting et al. 1999).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.latency import LatencySurrogate
from autoprumux.surrogates.residual import coordinates, correlation

Array = NDArray[np.float64]

_STDS = (0.02, 0.05, 0.10, 0.20, 0.40)
"""`sd`, all equally likely: quiet timings of one shape up to pruned models of a small encoder."""
_ROUGH_SHARES = (0.0, 0.5)
"""`rho`, all equally likely."""
_TIMING_STD = 0.01
"""Spread of a timing repeated on a quiet machine, in log speed-up."""
_BASELINE = (Candidate(1, 0.0),)


class SpeedupModel:
    """Predicts log speed-ups, from the first measured candidate on.

    Args:
        measured: Log speed-ups of `K` candidates; the baseline's, 0, is known without.
        error_stds: Of each, how far it may be off besides; those left out are not.

    Raises:
        UsageError: If a value isn't finite.
    """

    def __init__(
        self,
        measured: Mapping[Candidate, float],
        error_stds: Mapping[Candidate, float] | None = None,
    ) -> None:
        self._points = [c for c in measured if not c.is_baseline]
        self._law = LatencySurrogate()
        self._law.fit(self._points, [measured[c] for c in self._points])
        means, self._jacobian = self._law.linear(self._points)
        errors = np.array([(error_stds or {}).get(c, 0.0) for c in self._points])
        residuals = np.array([measured[c] for c in self._points]) - means
        pairs = [(std, rho) for std in _STDS for rho in _ROUGH_SHARES]
        stds, rhos = np.array(pairs).T
        self._smooth, self._rough = stds**2 * (1.0 - rhos), stds**2 * rhos  # (H,)
        gram = self._covariance(self._points, self._jacobian)  # (H, K, K)
        diagonal = self._rough[:, None] + errors**2 + _TIMING_STD**2
        gram = gram + np.eye(len(errors)) * diagonal[:, None, :]
        inverse_root = np.linalg.inv(np.linalg.cholesky(gram))
        scaled = inverse_root @ residuals  # (H, K)
        self._weights = np.einsum("hkl,hk->hl", inverse_root, scaled)
        self._inverse_root = inverse_root
        roots = np.log(np.diagonal(inverse_root, axis1=1, axis2=2)).sum(axis=1)
        likelihoods = roots - np.square(scaled).sum(axis=1) / 2.0
        shares = np.exp(likelihoods - likelihoods.max())
        self._shares = shares / shares.sum()

    def predict(self, candidates: Sequence[Candidate]) -> tuple[Array, Array]:
        """Yield mean and standard deviation `(M,)` of what a timing would yield.

        They are those of the mixture over all pairs of `sd` and `rho`.
        """
        means, jacobian = self._law.linear(candidates)
        cross = self._covariance(candidates, jacobian)  # (H, M, K)
        of_pairs = means + np.einsum("hmk,hk->hm", cross, self._weights)
        told = np.square(cross @ self._inverse_root.transpose(0, 2, 1)).sum(axis=2)
        smooth = 1.0 - correlation(coordinates(candidates), coordinates(_BASELINE))[:, 0] ** 2
        law = np.einsum("mp,pq,mq->m", jacobian, self._law.prior_covariance, jacobian)
        before = law + np.multiply.outer(self._smooth, smooth) + self._rough[:, None]
        variances = np.maximum(before - told, 0.0) + _TIMING_STD**2
        expected = self._shares @ of_pairs
        spread = self._shares @ (variances + np.square(of_pairs - expected))
        is_known = np.array([c.is_baseline for c in candidates], dtype=bool)
        return np.where(is_known, 0.0, expected), np.where(is_known, 0.0, np.sqrt(spread))

    def _covariance(self, candidates: Sequence[Candidate], jacobian: Array) -> Array:
        """Covariance `(H, M, K)` of law and smooth part between candidates and points."""
        here, there, origin = map(coordinates, (candidates, self._points, _BASELINE))
        smooth = correlation(here, there) - correlation(here, origin) * correlation(origin, there)
        law = jacobian @ self._law.prior_covariance @ self._jacobian.T
        return np.asarray(law + np.multiply.outer(self._smooth, smooth), dtype=np.float64)
