"""Expected losses that never fall with N or s, nearest to given ones.

Of the values on a set of candidates, the mean of two monotone bounds is taken: the largest value
of all that are smaller, and the smallest of all that are larger (both with the candidate itself).
Where the values are monotone already, both bounds are the values. A candidate outside the set is
kept between its neighbours in the set, so that what is said of it depends on no other question.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate

Array = NDArray[np.float64]


class MonotoneValues:
    """Values made monotone in N and s.

    Args:
        candidates: The set, each (N, s) once.
        values: `(K,)` finite values.
    """

    def __init__(self, candidates: Sequence[Candidate], values: Array) -> None:
        places = _places(candidates)
        self._widths, rows = np.unique(places[0], return_inverse=True)
        self._sparsities, columns = np.unique(places[1], return_inverse=True)
        shape = (len(self._widths), len(self._sparsities))
        below, above = np.full(shape, -np.inf), np.full(shape, np.inf)
        below[rows, columns] = above[rows, columns] = values
        projected = 0.5 * (_from_below(below) + _from_above(above))[rows, columns]
        below[rows, columns] = above[rows, columns] = projected
        self._below, self._above = _from_below(below), _from_above(above)

    def at(self, candidates: Sequence[Candidate], values: Array) -> Array:
        """Yield the values `(M,)` of `candidates`, given what they would be without this.

        Those of the set have the value of the set.
        """
        widths, sparsities = _places(candidates)
        low = _picked(
            self._below,
            np.searchsorted(self._widths, widths, side="right") - 1,
            np.searchsorted(self._sparsities, sparsities, side="right") - 1,
            -np.inf,
        )
        high = _picked(
            self._above,
            np.searchsorted(self._widths, widths),
            np.searchsorted(self._sparsities, sparsities),
            np.inf,
        )
        return np.asarray(np.minimum(np.maximum(values, low), high), dtype=np.float64)


def _from_below(table: Array) -> Array:
    """Largest of all with at most this row and column."""
    return np.asarray(np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1))


def _from_above(table: Array) -> Array:
    """Smallest of all with at least this row and column."""
    turned = table[::-1, ::-1]
    return np.minimum.accumulate(np.minimum.accumulate(turned, axis=0), axis=1)[::-1, ::-1]


def _picked(
    table: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], outside: float
) -> Array:
    is_inside = (rows >= 0) & (columns >= 0) & (rows < table.shape[0]) & (columns < table.shape[1])
    found = np.full(len(rows), outside)
    found[is_inside] = table[rows[is_inside], columns[is_inside]]
    return found


def _places(candidates: Sequence[Candidate]) -> Array:
    """`(2, K)`: N and s."""
    pairs = [(c.num_instances, c.sparsity) for c in candidates]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2).T
