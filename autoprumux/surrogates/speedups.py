"""Log speed-up of every candidate: the latency law and what measured points deviate from it.

With a calibration of the device, what that expects takes the place of the law (`calibrated`).

Symbols: `y(c) = law(c; z) + f(c) + e(c)`, the law linear in its parameters `z` around their best
fit; `f` is smooth, a Gaussian process with the correlation of `residual` that is 0 at the dense
baseline; `e` is rough, independent between candidates: at high sparsity a model is as fast as the
shape that it happens to keep. How much a study deviates, `sd`, and which share of its variance is
rough, `rho`, is not known before; each of several pairs counts by how likely it makes what is
measured (Bayesian model averaging, Hoeting et al. 1999).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.base import check_points
from autoprumux.surrogates.calibrated import CalibratedSpeeds
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
        expected: What is expected before anything is measured; None: by the law of latency.

    Raises:
        UsageError: If a value isn't finite.
    """

    def __init__(
        self,
        measured: Mapping[Candidate, float],
        error_stds: Mapping[Candidate, float] | None = None,
        *,
        expected: CalibratedSpeeds | None = None,
    ) -> None:
        self._points = [c for c in measured if not c.is_baseline]
        values = [measured[c] for c in self._points]
        if expected is not None:
            check_points(self._points, values)
        self._law = expected or _fitted_law(self._points, values)
        means, jacobian = self._law.linear(self._points)
        errors = np.array([(error_stds or {}).get(c, 0.0) for c in self._points])
        residuals = np.array(values) - means
        smooth = _smooth_correlation(self._points, self._points)
        prior = self._law.prior_covariance
        self._fits = [
            _Fit.of(rho, basis, jacobian, residuals, prior)
            for rho, basis in zip(_ROUGH_SHARES, _bases(smooth, errors), strict=True)
        ]
        likelihoods = np.concatenate([fit.log_likelihoods for fit in self._fits])
        shares = np.exp(likelihoods - likelihoods.max())
        self._shares = shares / shares.sum()

    def predict(self, candidates: Sequence[Candidate]) -> tuple[Array, Array]:
        """Yield mean and standard deviation `(M,)` of what a timing would yield.

        They are those of the mixture over all pairs of `sd` and `rho`.
        """
        means, jacobian = self._law.linear(candidates)
        law = jacobian @ self._law.prior_covariance
        before = (law * jacobian).sum(axis=1)
        cross = _smooth_correlation(candidates, self._points)
        own = 1.0 - correlation(coordinates(candidates), coordinates(_BASELINE))[:, 0] ** 2
        found = [fit.predict(law, cross) for fit in self._fits]
        of_pairs = means + np.concatenate([moved for moved, _ in found])
        told = np.concatenate([told for _, told in found])
        left = before + np.concatenate([fit.before(own) for fit in self._fits]) - told
        variances = np.maximum(left, 0.0) + _TIMING_STD**2
        expected = self._shares @ of_pairs
        spread = self._shares @ (variances + np.square(of_pairs - expected))
        is_known = np.array([c.is_baseline for c in candidates], dtype=bool)
        return np.where(is_known, 0.0, expected), np.where(is_known, 0.0, np.sqrt(spread))


@dataclass(frozen=True)
class _Fit:
    """What the points tell with one `rho`, for all `R` values of `sd`.

    Everything is told in a basis in which the points' errors are 1 and the deviations from the law
    diagonal; the law is added by Woodbury's identity.
    """

    rho: float
    basis: Array
    """`(K, K)`."""
    jacobian: Array
    """`(K, 3)`, in the basis."""
    variances: Array
    """`(R, K)` of deviations and errors."""
    inverse: Array
    """`(R, 3, 3)` covariance of `z` given the points."""
    weights: Array
    """`(R, K)`."""
    log_likelihoods: Array
    """`(R,)` but for what is the same for every pair."""

    @classmethod
    def of(
        cls,
        rho: float,
        basis: tuple[Array, Array],
        jacobian: Array,
        residuals: Array,
        prior: Array,
    ) -> "_Fit":
        vectors, values = basis
        variances = np.square(_STDS)[:, None] * values + 1.0  # (R, K)
        there, left = vectors.T @ jacobian, vectors.T @ residuals
        precision = np.linalg.inv(prior) + (there.T / variances[:, None]) @ there  # (R, 3, 3)
        inverse = np.linalg.inv(precision)
        told = (left / variances) @ there  # (R, 3)
        solved = np.einsum("rpq,rq->rp", inverse, told)
        squares = (left**2 / variances).sum(axis=1) - (told * solved).sum(axis=1)
        sizes = np.log(variances).sum(axis=1) + np.linalg.slogdet(precision)[1]
        return cls(
            rho=rho,
            basis=vectors,
            jacobian=there,
            variances=variances,
            inverse=np.asarray(inverse, dtype=np.float64),
            weights=(left - solved @ there.T) / variances,
            log_likelihoods=-(squares + sizes) / 2.0,
        )

    def before(self, own: Array) -> Array:
        """Variances `(R, M)` of deviations before anything is measured."""
        shares = (1.0 - self.rho) * own + self.rho
        return np.multiply.outer(np.square(_STDS), shares)

    def predict(self, law: Array, cross: Array) -> tuple[Array, Array]:
        """How far the points move `M` means, and by how much they lower the variances, `(R, M)`.

        Args:
            law: `(M, 3)` covariance of the law at candidates and of `z`.
            cross: `(M, K)` correlation of the smooth part.
        """
        smooth = (1.0 - self.rho) * np.square(_STDS)[:, None]  # (R, 1)
        cross = cross @ self.basis
        moved = (self.weights @ self.jacobian) @ law.T + smooth * (self.weights @ cross.T)
        weighted = self.jacobian.T / self.variances[:, None]  # (R, 3, K)
        of_law = law @ (weighted @ self.jacobian)  # (R, M, 3)
        of_smooth = smooth[:, :, None] * np.matmul(cross, weighted.transpose(0, 2, 1))
        told = (law * (of_law + 2.0 * of_smooth)).sum(axis=2)
        told += smooth**2 * (np.square(cross) @ (1.0 / self.variances).T).T
        both = of_law + of_smooth
        return moved, told - (np.matmul(both, self.inverse) * both).sum(axis=2)


def _fitted_law(points: Sequence[Candidate], values: Sequence[float]) -> LatencySurrogate:
    law = LatencySurrogate()
    law.fit(points, values)
    return law


def _bases(smooth: Array, errors: Array) -> list[tuple[Array, Array]]:
    """Yield for each `rho` the basis of `_Fit` and the deviations of size 1 in it, `(K,)`.

    Where all errors are equal, one basis serves all.
    """
    noise = errors**2 + _TIMING_STD**2
    if (noise == noise[:1]).all():
        values, vectors = np.linalg.eigh(smooth)
        basis = vectors / np.sqrt(noise)
        return [(basis, ((1.0 - rho) * values + rho) / noise) for rho in _ROUGH_SHARES]
    found, root = [], 1.0 / np.sqrt(noise)
    for rho in _ROUGH_SHARES:
        deviations = (1.0 - rho) * smooth + rho * np.eye(len(noise))
        values, vectors = np.linalg.eigh(root[:, None] * deviations * root)
        found.append((root[:, None] * vectors, values))
    return found


def _smooth_correlation(left: Sequence[Candidate], right: Sequence[Candidate]) -> Array:
    """Correlation `(M, K)` of the smooth part, which is 0 at the baseline."""
    here, there, origin = map(coordinates, (left, right, _BASELINE))
    return correlation(here, there) - correlation(here, origin) * correlation(origin, there)
