"""Which measured points a Gaussian process is fitted to when there are many.

Its matrices grow with the square of the points and their inversion with the cube. Beyond a
hundred points on the plane of N and s, further ones lie between others and tell it little.
"""

from collections.abc import Sequence

import numpy as np

from autoprumux.records import Candidate
from autoprumux.surrogates.residual import coordinates

MAX_POINTS = 100
"""More than the grid of any preset holds, so that only larger studies leave points out."""


def spread_out(points: Sequence[Candidate]) -> list[Candidate]:
    """Yield all of few points; of many `MAX_POINTS`, each as far as can be from those before it.

    The first is the smallest, which is the dense baseline. What is chosen does not depend on the
    order of the points (Gonzalez 1985).
    """
    if len(points) <= MAX_POINTS:
        return list(points)
    ordered = sorted(points, key=lambda c: (c.num_instances, c.sparsity, c.hyperparameters))
    axes = np.ascontiguousarray(coordinates(ordered).T)
    chosen = [0]
    nearest = np.full(len(ordered), np.inf)
    while len(chosen) < MAX_POINTS:
        near, far = (np.abs(axis - axis[chosen[-1]]) for axis in axes)
        nearest = np.minimum(nearest, near + far)
        chosen.append(int(nearest.argmax()))
    return [ordered[k] for k in chosen]
