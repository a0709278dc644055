"""Both tables of the paper for one study (Su et al. 2023, section 5; reference-spec, 7.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

from autoprumux.errors import TooFewTrialsError
from autoprumux.hardware import calibrated_speeds_of, require_baseline, require_one_device
from autoprumux.records import StudyRecord
from autoprumux.surrogates.pairs import PaperPair, PerformancePair, StructuredPair, SurrogatePair
from autoprumux.surrogates.performance import telling_failures
from autoprumux.surrogates.related import Others
from autoprumux.validation.budget_hits import HitRow, hit_row
from autoprumux.validation.grid import UNSEEN_SPARSITIES, MeasuredGrid, is_fitted
from autoprumux.validation.point_errors import ErrorRow, error_rows

TABLE_TASK = "qqp"
"""The task whose speed-ups serve all others, if there is a choice."""

MIN_ROW = 3
"""Candidates of the training grid that one width must have, so that one can be left out."""

_REMEDY = "Search again in one setting, under another name (`--study`), to validate it."


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Both tables for one study."""

    study: str
    task: str
    table_of: str
    """Study whose speed-ups the paper's throughput model uses; the study itself if no other."""
    num_fitted: int
    """Trials that the surrogates learn from, baseline, N = 1 and s = 0 included."""
    num_failed: int
    errors: tuple[ErrorRow, ...]
    hits: tuple[HitRow, ...]


def validate_study(
    study: StudyRecord, others: Sequence[StudyRecord] = (), prior: Others | None = None
) -> Validation:
    """Compare predictions of each surrogate with the measured trials of a study.

    Args:
        study: With its trials, ideally a full grid.
        others: Studies whose speed-ups the paper's throughput model may use.
        prior: What studies of other tasks tell; then the performance model with it is one more.

    Raises:
        NoBaselineError: If the dense baseline is not measured.
        MixedDevicesError: If trials were measured in another setting than it was.
        TooFewTrialsError: If no width above 1 has three candidates of the training grid.
    """
    require_baseline(study)
    require_one_device(study, _REMEDY)
    grid = MeasuredGrid(dict(sorted(study.by_cell.items())))
    _require_enough(study, grid)
    table = _table_study(study, others)
    speedups = {c: m.speedup for c, m in table.by_cell.items()}
    pairs: list[SurrogatePair] = [PaperPair(speedups), StructuredPair()]
    pairs += [_performance_pair(study, told) for told in ([None, prior] if prior else [None])]
    rows = error_rows(pairs, grid, has_table=table is not study)
    all_points = [hit_row(pair, grid, "all") for pair in pairs]
    unseen_points = [hit_row(pair, grid, "unseen") for pair in pairs if grid.unseen]
    return Validation(
        study=study.name,
        task=study.task,
        table_of=table.name,
        num_fitted=len(grid.fitted),
        num_failed=sum(trial.failure is not None for trial in study.trials),
        errors=tuple(row for row in rows if row.errors),
        hits=(*all_points, *unseen_points),
    )


def _performance_pair(study: StudyRecord, prior: Others | None) -> PerformancePair:
    """Yield what a search knows of the study: failed cells too, but for the unseen ones."""
    failed, stopped = telling_failures(study), study.stopped_cells
    cells = {*study.by_cell, *(trial.candidate.cell for trial in study.trials)}
    return PerformancePair(
        cells=sorted(cells),
        failed={c: chance for c, chance in failed.items() if is_fitted(c)},
        stopped={c: most for c, most in stopped.items() if is_fitted(c)},
        others=prior,
        speeds=calibrated_speeds_of(study),
    )


def _require_enough(study: StudyRecord, grid: MeasuredGrid) -> None:
    widths = [candidate.num_instances for candidate in grid.training]
    longest = max((widths.count(width) for width in widths), default=0)
    if longest < MIN_ROW:
        others = ", ".join(f"{sparsity:.2f}" for sparsity in UNSEEN_SPARSITIES)
        raise TooFewTrialsError(
            f"Study `{study.name}` is too small to validate: one width above 1 needs at least "
            f"{MIN_ROW} measured sparsities above 0, {others} not counted, and the fullest has "
            f"{longest}. `--sampler grid --max-trials 36 --set search.stop_chance=0` trains all."
        )


def _table_study(study: StudyRecord, others: Sequence[StudyRecord]) -> StudyRecord:
    """Yield another task's study in the same setting, `TABLE_TASK`'s if it is among them."""
    fitting = [o for o in others if o.task != study.task and _is_timed_alike(o, study)]
    return min(fitting, key=lambda o: (o.task != TABLE_TASK, -len(o.measured)), default=study)


def _is_timed_alike(other: StudyRecord, study: StudyRecord) -> bool:
    if other.timing is None or study.timing is None or other.other_timings:
        return False
    return study.timing.difference(other.timing) is None
