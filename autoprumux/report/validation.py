"""The tables of `autoprumux validate`: text and JSON."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from autoprumux.validation.budget_hits import BUDGETS, HitRow
from autoprumux.validation.point_errors import ErrorRow, PointError
from autoprumux.validation.study import Validation


def format_validation(validation: Validation) -> str:
    """Yield both tables of one study."""
    table = validation.table_of
    if table == validation.study:
        table = "its own, as no study of another task was measured on this device"
    lines = [
        f"study {validation.study}, task {validation.task}: surrogates fitted on "
        f"{validation.num_fitted} trials, {validation.num_failed} failed",
        f"speed-ups in the paper's table: {table}",
        "",
        "Near what was measured (accuracy within 1.5 points, speed-up within 20 %):",
        "target    surrogate                  points     defined at        within  "
        "between points   mean error  in 50, 80, 90 % interval  90 % width",
        *map(_error_line, validation.errors),
        "",
        f"Fastest model within the budget among the predicted three ({len(BUDGETS)} budgets, "
        "0 to 10 points):",
        "surrogate                  points          hits  where a faster model than the "
        "baseline is",
        *map(_hit_line, validation.hits),
    ]
    return "\n".join(lines)


def validation_to_dict(validation: Validation) -> dict[str, Any]:
    """Yield both tables of one study for JSON; errors are fractions."""
    return {
        "study": validation.study,
        "task": validation.task,
        "table_of": validation.table_of,
        "num_fitted": validation.num_fitted,
        "num_failed": validation.num_failed,
        "errors": [_error_to_dict(row) for row in validation.errors],
        "hits": [_hit_to_dict(row) for row in validation.hits],
    }


def _error_line(row: ErrorRow) -> str:
    unit = "points" if row.target == "accuracy" else "%"
    mean = "-" if row.mean_error is None else f"{100 * row.mean_error:.1f} {unit:<6}"
    between = f"{row.num_interpolated_within} of {row.num_interpolated}"
    defined = f"{row.num_predicted} of {row.num_points}"
    within = f"{row.num_within} of {row.num_points}"
    return (
        f"{row.target:<8}  {row.surrogate:<25}  {row.points:<8}  {defined:>11}  {within:>12}"
        f"  {between:>14}  {mean:>11}  {_coverage(row):>24}  {_width(row):>10}"
    )


def _coverage(row: ErrorRow) -> str:
    """Yield how many measured values are inside the intervals of each level."""
    if not row.intervals:
        return "-"
    covered = ", ".join(str(interval.num_covered) for interval in row.intervals)
    return f"{covered} of {row.intervals[0].num_intervals}"


def _width(row: ErrorRow) -> str:
    """Yield the mean width of the widest intervals: points, or upper over lower end."""
    if not row.intervals:
        return "-"
    width = row.intervals[-1].mean_width
    return f"{100 * width:.1f} points" if row.target == "accuracy" else f"{math.exp(width):.2f}x"


def _hit_line(row: HitRow) -> str:
    decided = list(_decided(row))
    hits = f"{sum(row.hits)} of {len(row.hits)}"
    return (
        f"{row.surrogate:<25}  {row.points:<8}  {hits:>10}  {f'{sum(decided)} of {len(decided)}'}"
    )


def _decided(row: HitRow) -> Iterator[bool]:
    """Yield the hits at the budgets within which a model is faster than the baseline."""
    for is_hit, is_baseline in zip(row.hits, row.is_baseline_best, strict=True):
        if not is_baseline:
            yield is_hit


def _error_to_dict(row: ErrorRow) -> dict[str, Any]:
    return {
        "target": row.target,
        "surrogate": row.surrogate,
        "points": row.points,
        "num_points": row.num_points,
        "num_predicted": row.num_predicted,
        "num_within": row.num_within,
        "num_interpolated": row.num_interpolated,
        "num_interpolated_within": row.num_interpolated_within,
        "mean_error": row.mean_error,
        "intervals": [asdict(interval) for interval in row.intervals],
        "predictions": [_point_to_dict(error) for error in row.errors],
    }


def _point_to_dict(point: PointError) -> dict[str, Any]:
    predicted = point.predicted
    return {
        "num_instances": point.candidate.num_instances,
        "sparsity": point.candidate.sparsity,
        "measured": point.measured,
        "error": None if predicted is None else point.error,
        "is_extrapolated": None if predicted is None else predicted.is_extrapolated,
    }


def _hit_to_dict(row: HitRow) -> dict[str, Any]:
    decided: Sequence[bool] = list(_decided(row))
    return {
        "surrogate": row.surrogate,
        "points": row.points,
        "num_budgets": len(row.hits),
        "num_hits": sum(row.hits),
        "num_decided": len(decided),
        "num_decided_hits": sum(decided),
    }
