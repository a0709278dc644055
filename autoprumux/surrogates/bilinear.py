"""The paper's accuracy model: piecewise bilinear interpolation with holes.

Rows are the measured widths `N_1 < ... < N_p`; each row holds its own measured sparsities. The
value is linear along `s` inside a row, then linear in `N` between the nearest rows that cover `s`.
In a cell with its four corners this is the bilinear interpolant of the paper; with a missing
corner it is the fallback of reference-spec, section 7.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points

Direction = Literal["sparsity", "width", "both"]
"""Along which line a left-out point is predicted: its row, its column, or the mean of both."""

_Grid = dict[float, dict[float, float]]


class BilinearSurrogate:
    """Bilinear interpolation of any target (PruMUX, Su et al. 2023, section 4.1).

    Undefined outside the measured points, unless extrapolation is asked for; then the prediction
    is flagged. The standard deviation is the root mean square of the leave-one-out errors, or the
    range of the values where too few points are left for those; it is 0 at measured points.
    """

    def __init__(self, *, extrapolate: bool = False) -> None:
        self._extrapolate = extrapolate
        self._rows: _Grid = {}
        self._std = 0.0

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`."""
        check_points(candidates, values)
        self._rows = _grid(candidates, values)
        self._std = _typical_error(candidates, values)

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`."""
        return [self._predict_one(candidate) for candidate in candidates]

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
            return Prediction(row[sparsity], 0.0)
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
        `K` predictions; `None` where fewer than two points are left on every line asked for.

    Raises:
        UsageError: See `Surrogate.fit`.
    """
    check_points(candidates, values)
    rows, columns = _grid(candidates, values), _columns(candidates, values)
    return [_left_out(rows, columns, candidate, direction) for candidate in candidates]


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


def _typical_error(candidates: Sequence[Candidate], values: Sequence[float]) -> float:
    predictions = leave_one_out(candidates, values, direction="both")
    errors = [
        prediction.mean - value
        for prediction, value in zip(predictions, values, strict=True)
        if prediction is not None
    ]
    if errors:
        return float(np.sqrt(np.mean(np.square(errors))))
    return float(np.ptp(values)) if values else 0.0
