"""Rows of the trial table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from autoprumux.answers import MeasuredModel, measured_models, pareto_front
from autoprumux.records import StudyRecord, TrialRecord
from autoprumux.report.answers import is_setting_searched
from autoprumux.report.tables import disturbed_mark


@dataclass(frozen=True)
class Entry:
    """One entry of a table."""

    text: str
    number: float | None = None
    """What a column of numbers is sorted by; entries without it come last."""

    @property
    def key(self) -> str:
        """The number as the page's script reads it."""
        return "" if self.number is None else f"{self.number:.7g}"


@dataclass(frozen=True)
class Column:
    """Head of a column."""

    name: str
    is_number: bool = True


MAX_ROWS = 800
"""Trials in the page; of more, those on the front and the newest."""

_SETTING = "hyperparameters"

COLUMNS = (
    Column("trial"),
    Column("N"),
    Column("s"),
    Column(_SETTING, is_number=False),
    Column("s achieved"),
    Column("accuracy, %"),
    Column("loss, points"),
    Column("95 % interval"),
    Column("speed-up"),
    Column("quartiles"),
    Column("seq/s"),
    Column("minutes"),
    Column("outcome", is_number=False),
    Column("why chosen", is_number=False),
)

_NOTHING = Entry("-")

_Shown = TypeVar("_Shown", Column, Entry)


def columns(study: StudyRecord) -> list[Column]:
    """Yield the heads of the table; only a study that searches hyperparameters has theirs."""
    return [column for column, _ in _shown(study, COLUMNS)]


def shown_trials(study: StudyRecord) -> Sequence[TrialRecord]:
    """Yield the trials that the page shows, in order of their number; see `MAX_ROWS`."""
    if len(study.trials) <= MAX_ROWS:
        return study.trials
    front = {candidate for candidate, _ in pareto_front(study.measured)}
    order = sorted(study.trials, key=lambda trial: (trial.candidate in front, trial.number))
    return sorted(order[-MAX_ROWS:], key=lambda trial: trial.number)


def trial_rows(study: StudyRecord, trials: Sequence[TrialRecord]) -> list[list[Entry]]:
    """Yield a row for each of `trials`, an entry per column."""
    baseline = study.baseline
    models = [] if baseline is None else measured_models(study, baseline)
    by_measurement = {id(model.measurement): model for model in models}
    rows = [_row(trial, by_measurement.get(id(trial.measurement))) for trial in trials]
    return [[entry for _, entry in _shown(study, row)] for row in rows]


def _shown(study: StudyRecord, row: Sequence[_Shown]) -> list[tuple[Column, _Shown]]:
    is_searched = is_setting_searched(study)
    pairs = zip(COLUMNS, row, strict=True)
    return [pair for pair in pairs if is_searched or pair[0].name != _SETTING]


def _row(trial: TrialRecord, model: MeasuredModel | None) -> list[Entry]:
    candidate, choice = trial.candidate, trial.choice
    return [
        Entry(str(trial.number), trial.number),
        Entry(str(candidate.num_instances), candidate.num_instances),
        Entry(f"{candidate.sparsity:.2f}", candidate.sparsity),
        Entry(candidate.setting or "the study's own"),
        *_measured(trial, model),
        Entry(_outcome(trial)),
        Entry(choice.reason) if choice else _NOTHING,
    ]


def _measured(trial: TrialRecord, model: MeasuredModel | None) -> Sequence[Entry]:
    measurement = trial.measurement
    if measurement is None:
        return [_NOTHING] * 8
    speed = measurement.throughput
    minutes = measurement.duration_s / 60
    loss = interval = _NOTHING
    if model is not None:
        points = 100 * model.accuracy_loss
        low, high = 100 * model.interval.low, 100 * model.interval.high
        loss = Entry(_signed(points), points)
        interval = Entry(f"{_signed(low)} to {_signed(high)}", high - low)
    return [
        Entry(f"{measurement.sparsity:.3f}", measurement.sparsity),
        Entry(f"{100 * measurement.accuracy:.2f}", measurement.accuracy),
        loss,
        interval,
        Entry(f"{speed.speedup:.2f}x{disturbed_mark(measurement)}", speed.speedup),
        Entry(f"{speed.speedup_q1:.2f} to {speed.speedup_q3:.2f}", speed.speedup_q3),
        Entry(f"{speed.throughput:.0f}", speed.throughput),
        Entry(f"{minutes:.1f}", minutes),
    ]


def _signed(points: float) -> str:
    return f"{points + 0.0:.2f}".replace("-0.00", "0.00")


def _outcome(trial: TrialRecord) -> str:
    if trial.failure is None:
        return trial.state
    last = trial.failure.last_accuracy
    seen = "" if last is None else f" (last held-out accuracy {100 * last:.1f} %)"
    return f"failed, {trial.failure.cause}: {' '.join(trial.failure.message.split())}{seen}"
