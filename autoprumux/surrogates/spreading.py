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
    ordered = sorted(points)
    places = coordinates(ordered)
    chosen = [0]
    nearest = np.full(len(ordered), np.inf)
    while len(chosen) < MAX_POINTS:
        nearest = np.minimum(nearest, np.abs(places - places[chosen[-1]]).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return [ordered[k] for k in chosen]
