"""The paper's accuracy model: piecewise bilinear interpolation with holes.

Rows are the measured widths `N_1 < ... < N_p`; each row holds its own measured sparsities. The
value is linear along `s` inside a row, then linear in `N` between the nearest rows that cover `s`.
In a cell with its four corners this is the bilinear interpolant of the paper; with a missing
corner it is the fallback of reference-spec, section 7.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points

Direction = Literal["sparsity", "width", "both"]
"""Along which line a left-out point is predicted: its row, its column, or the mean of both."""

Array = NDArray[np.float64]

_Grid = dict[float, dict[float, float]]


@dataclass(frozen=True)
class Cells:
    """What the interpolant at `M` candidates is, and which measured points it rests on."""

    values: Array
    """`(M,)`; NaN where it isn't defined without extrapolation, as in the other fields."""
    widths: Array
    """`(2, M)`: N of the rows below and above, twice the same on a row."""
    sparsities: Array
    """`(2, M)`: the least and the largest s in those rows."""


class BilinearSurrogate:
    """Bilinear interpolation of any target (PruMUX, Su et al. 2023, section 4.1).

    Undefined outside the measured points, unless extrapolation is asked for; then the prediction
    is flagged. The standard deviation is the root mean square of the leave-one-out errors, or the
    range of the values where too few points are left for those; at measured points it is that of
    their noise.

    Args:
        extrapolate: True goes on outside the measured points.
        noise_stds: Of the measured values; 0 for those left out.
    """

    def __init__(
        self,
        *,
        extrapolate: bool = False,
        noise_stds: Mapping[Candidate, float] | None = None,
    ) -> None:
        self._extrapolate, self._noise_stds = extrapolate, noise_stds or {}
        self.fit([], [])

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`."""
        check_points(candidates, values)
        self._candidates, self._values = tuple(candidates), tuple(values)
        self._rows = _grid(candidates, values)
        self.__dict__.pop("_std", None)

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`."""
        return [self._predict_one(candidate) for candidate in candidates]

    def cells(self, candidates: Sequence[Candidate]) -> Cells:
        """Interpolate at `M` candidates at once, as `predict` does without extrapolation."""
        pairs = [(c.num_instances, c.sparsity) for c in candidates]
        asked, sparsities = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        widths = np.array(sorted(self._rows))[:, None]  # (p, 1)
        if not len(widths):
            nothing = np.full((2, len(pairs)), np.nan)
            return Cells(nothing[0], nothing, nothing)
        rows = np.array([_along_row(self._rows[n], sparsities) for n in widths[:, 0]])
        place = np.arange(len(widths))[:, None]
        is_covering = ~np.isnan(rows[:, 0])  # (p, 3, M) -> (p, M)
        below = np.where(is_covering & (widths <= asked), place, -1).max(axis=0)
        above = np.where(is_covering & (widths >= asked), place, len(widths)).min(axis=0)
        is_inside = (below >= 0) & (above < len(widths))
        picked = np.where(is_inside, [below, above], 0)  # (2, M)
        ends = np.take_along_axis(rows, picked[:, None], axis=0)  # (p, 3, M) -> (2, 3, M)
        near = np.where(is_inside, widths[picked, 0], np.nan)
        span = np.where(near[1] > near[0], near[1] - near[0], 1.0)
        share = (asked - near[0]) / span
        values = ends[0, 0] * (1.0 - share) + ends[1, 0] * share
        reach = np.stack([ends[:, 1].min(axis=0), ends[:, 2].max(axis=0)])
        return Cells(values, near, np.where(is_inside, reach, np.nan))

    @cached_property
    def _std(self) -> float:
        """Found when first asked for: it costs more than all the rest."""
        return _typical_error(self._candidates, self._values)

    def corners(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The measured points, one to four, that the interpolant at `candidate` rests on.

        Empty where it isn't defined without extrapolation.
        """
        brackets = {n: _bracket(row, candidate.sparsity) for n, row in self._rows.items()}
        covering = {n: bracket for n, bracket in brackets.items() if bracket}
        widths = _bracket(covering, candidate.num_instances)
        return tuple(Candidate(int(n), s) for n in widths for s in covering[n])

    def _predict_one(self, candidate: Candidate) -> Prediction | None:
        width, sparsity = float(candidate.num_instances), candidate.sparsity
        row = self._rows.get(width, {})
        if sparsity in row:
            return Prediction(row[sparsity], self._noise_stds.get(candidate.cell, 0.0))
        inside = _across_rows(self._rows, width, sparsity)
        if inside is not None:
            return Prediction(inside, self._std)
        outside = _outside(self._rows, width, sparsity) if self._extrapolate else None
        return None if outside is None else Prediction(outside, self._std, is_extrapolated=True)


def leave_one_out(
    candidates: Sequence[Candidate], values: Sequence[float], *, direction: Direction = "sparsity"
) -> list[Prediction | None]:
    """Predict each of `K` points from the others (reference-spec, section 7.4).

    Args:
        candidates: The measured points.
        values: Their values.
        direction: `sparsity` is the paper's most likely protocol: linear interpolation in the
            point's row, at an end of the row the line through its two nearest points (flagged as
            extrapolated).

    Returns:
        `K` predictions; `None` where fewer than two points are left on every line asked for. The
        standard deviation is the root mean square error of leaving out the other points alike,
        without the one in question.

    Raises:
        UsageError: See `Surrogate.fit`.
    """
    check_points(candidates, values)
    means = _left_out_means(candidates, values, direction)
    return [
        None
        if mean is None
        else replace(mean, std=_error_of_others(candidates, values, direction, place))
        for place, mean in enumerate(means)
    ]


def are_surrounded(points: Sequence[Candidate], candidates: Sequence[Candidate]) -> list[bool]:
    """Yield for `M` candidates whether an interpolant of the points is defined there."""
    surrogate = BilinearSurrogate()
    surrogate.fit(points, [0.0] * len(points))
    found: list[bool] = (~np.isnan(surrogate.cells(candidates).values)).tolist()
    return found


def _grid(candidates: Sequence[Candidate], values: Sequence[float]) -> _Grid:
    grid: _Grid = {}
    for candidate, value in zip(candidates, values, strict=True):
        grid.setdefault(float(candidate.num_instances), {})[candidate.sparsity] = float(value)
    return grid


def _columns(candidates: Sequence[Candidate], values: Sequence[float]) -> _Grid:
    columns: _Grid = {}
    for candidate, value in zip(candidates, values, strict=True):
        columns.setdefault(candidate.sparsity, {})[float(candidate.num_instances)] = float(value)
    return columns


def _along_row(row: Mapping[float, float], x: Array) -> Array:
    """`(3, M)`: the value at `x` and the points around it; NaN outside the row's points."""
    known = np.array(sorted(row))
    values = np.array([row[s] for s in known])
    after = np.minimum(np.searchsorted(known, x), len(known) - 1)
    before = np.where(known[after] == x, after, np.maximum(after - 1, 0))
    low, high = known[before], known[after]
    share = (x - low) / np.where(high > low, high - low, 1.0)
    found = np.stack([values[before] * (1.0 - share) + values[after] * share, low, high])
    return np.where((low <= x) & (x <= high), found, np.nan)


def _across_rows(rows: _Grid, width: float, sparsity: float) -> float | None:
    by_width = {n: _interpolate(row, sparsity) for n, row in rows.items()}
    return _interpolate({n: v for n, v in by_width.items() if v is not None}, width)


def _outside(rows: _Grid, width: float, sparsity: float) -> float | None:
    """Along the candidate's own row if it has two points, otherwise across the rows."""
    own_row = _extrapolate(rows.get(width, {}), sparsity)
    if own_row is not None:
        return own_row
    by_width = {n: _extrapolate(row, sparsity) for n, row in rows.items()}
    return _extrapolate({n: v for n, v in by_width.items() if v is not None}, width)


def _interpolate(points: Mapping[float, float], x: float) -> float | None:
    """Piecewise linear interpolation; `None` outside the points."""
    bracket = _bracket(points, x)
    if not bracket:
        return None
    return _line(points, bracket[0], bracket[-1], x)


def _bracket(points: Iterable[float], x: float) -> tuple[float, ...]:
    """The point at `x`, else the nearest one on each side, else nothing."""
    known = list(points)
    if x in known:
        return (x,)
    below, above = [k for k in known if k < x], [k for k in known if k > x]
    return (max(below), min(above)) if below and above else ()


def _extrapolate(points: Mapping[float, float], x: float) -> float | None:
    """Like `_interpolate`, but outside the points the line through the two nearest."""
    inside = _interpolate(points, x)
    if inside is not None or len(points) < 2:
        return inside
    nearest, second = sorted(points, key=lambda known: abs(known - x))[:2]
    return _line(points, nearest, second, x)


def _line(points: Mapping[float, float], a: float, b: float, x: float) -> float:
    share = (x - a) / (b - a) if b != a else 0.0
    return points[a] * (1.0 - share) + points[b] * share


def _left_out(
    rows: _Grid, columns: _Grid, candidate: Candidate, direction: Direction
) -> Prediction | None:
    width, sparsity = float(candidate.num_instances), candidate.sparsity
    row = {s: value for s, value in rows[width].items() if s != sparsity}
    column = {n: value for n, value in columns[sparsity].items() if n != width}
    asked = {"sparsity": [(row, sparsity)], "width": [(column, width)]}
    asked["both"] = asked["sparsity"] + asked["width"]
    found = [(_interpolate(line, x), _extrapolate(line, x)) for line, x in asked[direction]]
    inside = [value for value, _ in found if value is not None]
    anywhere = [value for _, value in found if value is not None]
    if not anywhere:
        return None
    is_extrapolated = not inside
    mean = float(np.mean(anywhere if is_extrapolated else inside))
    return Prediction(mean, 0.0, is_extrapolated)


def _left_out_means(
    candidates: Sequence[Candidate], values: Sequence[float], direction: Direction
) -> list[Prediction | None]:
    rows, columns = _grid(candidates, values), _columns(candidates, values)
    return [_left_out(rows, columns, candidate, direction) for candidate in candidates]


def _error_of_others(
    candidates: Sequence[Candidate], values: Sequence[float], direction: Direction, place: int
) -> float:
    others = [*range(place), *range(place + 1, len(candidates))]
    return _typical_error([candidates[k] for k in others], [values[k] for k in others], direction)


def _typical_error(
    candidates: Sequence[Candidate], values: Sequence[float], direction: Direction = "both"
) -> float:
    predictions = _left_out_means(candidates, values, direction)
    errors = [
        prediction.mean - value
        for prediction, value in zip(predictions, values, strict=True)
        if prediction is not None
    ]
    if errors:
        return float(np.sqrt(np.mean(np.square(errors))))
    return float(np.ptp(values)) if values else 0.0
