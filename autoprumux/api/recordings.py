"""Recordings of studies: written, validated, replayed.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprumux.api.stored import load_all_stored, load_stored
from autoprumux.config import DEFAULT_STORAGE, SearchConfig, parse_budgets
from autoprumux.errors import (
    MixedDevicesError,
    NoBaselineError,
    TooFewTrialsError,
    UnknownStudyError,
    UsageError,
)

if TYPE_CHECKING:
    from autoprumux.evaluators.recording import Recording
    from autoprumux.records import Measurement, StudyRecord
    from autoprumux.surrogates.related import Others
    from autoprumux.validation.study import Validation

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ValidationOutcome:
    """How good the surrogates are on the studies asked for."""

    validations: "tuple[Validation, ...]"
    left_out: tuple[str, ...]
    """Per study that cannot be validated: the sentence that says why."""


def export_recorded(
    studies: Sequence[str],
    directory: Path,
    *,
    storage: str = DEFAULT_STORAGE,
    name: str = "",
) -> tuple[Path, Path]:
    """Write the finished trials of studies as one recording, and yield its header and its rows.

    Args:
        studies: Names in the database; they may differ in seed and grid only.
        directory: Gets `NAME.json` and `NAME.csv`.
        storage: Database URL.
        name: Name of the recording; empty means `TASK-DATA-MODEL`.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from datetime import UTC, datetime

    from autoprumux.evaluators.recording import record_studies
    from autoprumux.evaluators.recording_files import save_recording

    records = [load_stored(storage, name=study) for study in studies]
    today = datetime.now(UTC).date().isoformat()
    return save_recording(record_studies(records, name=name, recorded=today), directory)


def validate_studies(
    *,
    study: str | None = None,
    task: str | None = None,
    storage: str = DEFAULT_STORAGE,
    recorded: Sequence[str] = (),
) -> "ValidationOutcome":
    """Compare what the surrogates predict with what studies measured.

    Args:
        study: Validates the study of this name; a refusal is then an error.
        task: Validates the studies of this task; None means all of the database.
        storage: Database URL, unless recordings are given.
        recorded: Names or files of recordings, each of whose seeds is validated as a study.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from autoprumux.search.related import others_of
    from autoprumux.validation.study import validate_study

    studies = _recorded_studies(recorded) if recorded else load_all_stored(storage)
    asked = [s for s in studies if study in (None, s.name) and task in (None, s.task)]
    if not asked:
        names = ", ".join(f"`{s.name}` (task `{s.task}`)" for s in studies) or "no studies"
        raise UnknownStudyError(f"There is no such study to validate; there are {names}.")
    validations, refusals = [], []
    for record in asked:
        try:
            others = [s for s in studies if s.task != record.task]
            prior = others_of(record, others) if record.baseline else None
            validations.append(validate_study(record, studies, prior))
        except (MixedDevicesError, NoBaselineError, TooFewTrialsError) as error:
            refusals.append(error)
    if not validations:
        raise refusals[0]
    return ValidationOutcome(
        validations=tuple(validations), left_out=tuple(str(error) for error in refusals)
    )


def replay_recorded(
    recorded: str,
    budget: str = "2",
    *,
    samplers: Sequence[str] = ("performance_model", "random", "grid", "tpe"),
    prior: Sequence[str] = (),
    num_seeds: int = 20,
    max_trials: int | None = None,
) -> list[dict[str, Any]]:
    """Yield, per sampler, what its searches would have done on recorded trainings.

    Whether the first sampler needs fewer trials is tested against each of the others.

    Args:
        recorded: Name or file of a recording.
        budget: Percentage points, see `search_task`.
        samplers: Names of `autoprumux.search.replay.SAMPLERS`.
        prior: Names or files of recordings of other tasks, which our sampler takes as a prior.
        num_seeds: Searches per sampler, with the seeds 0, 1, ...
        max_trials: Cap of a search; None means that of a study file that names none.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from autoprumux.evaluators.recorded import RecordedEvaluator
    from autoprumux.evaluators.recording_files import load_recording
    from autoprumux.search.replay import as_sampler, replay_search
    from autoprumux.search.replay_summary import summarise
    from autoprumux.search.space import SearchSpace

    names = [as_sampler(name) for name in samplers]
    if num_seeds < 1:
        raise UsageError(f"`--seeds` must be at least 1, got {num_seeds}.")
    search = SearchConfig(budgets=parse_budgets(budget))
    if max_trials is not None:
        search = replace(search, max_trials=max_trials)
    recording = load_recording(recorded).of_best_settings()
    _note_processors(recording)
    RecordedEvaluator(recording).check()
    space = SearchSpace(recording.candidates)
    others = _others(prior, recording) if prior else None
    searches = [
        [
            replay_search(
                lambda: RecordedEvaluator(recording),
                space,
                replace(search, seed=seed),
                name,
                others,
            )
            for seed in range(num_seeds)
        ]
        for name in names
    ]
    first, *rest = searches
    return [summarise(first), *(summarise(own, first) for own in rest)]


def _others(names: Sequence[str], recording: "Recording") -> "Others":
    """Yield what recordings of other tasks tell of this one."""
    from autoprumux.search.related import as_other
    from autoprumux.surrogates.related import Others

    studies = _recorded_studies(names)
    same = [study.name for study in studies if study.task == recording.task]
    if same:
        raise UsageError(
            f"`--prior` must name recordings of other tasks than `{recording.task}`, "
            f"got `{same[0]}`."
        )
    without = [study.name for study in studies if study.baseline is None]
    if without:
        raise NoBaselineError(f"The prior `{without[0]}` has no measured dense baseline.")
    measured = (recording.as_study(seed).baseline for seed in recording.seeds)
    baseline = next(found for found in measured if found is not None)  # it is there: `check`
    for study in studies:
        _note_other_setting(study, baseline)
    return Others([as_other(study, baseline) for study in studies])


def _note_other_setting(prior: "StudyRecord", baseline: "Measurement") -> None:
    """Tell of a prior whose speeds cannot be compared with those of `baseline`."""
    assert prior.timing is not None
    field = baseline.timing.difference(prior.timing)
    if field is not None:
        _logger.warning(
            "of the prior `%s` the losses count and the speed-ups do not: it was measured with "
            "%s, what is replayed with %s",
            prior.name,
            prior.timing.told(field),
            baseline.timing.told(field),
        )


def _note_processors(recording: "Recording") -> None:
    """Tell of a recording whose speed-ups are each relative to its own machine."""
    if len(recording.processors) > 1:
        _logger.warning(
            "the recording `%s` was measured on several processors (%s); each speed-up is over "
            "the dense baseline timed beside it",
            recording.name,
            ", ".join(recording.processors),
        )


def _recorded_studies(names: Sequence[str]) -> "list[StudyRecord]":
    from autoprumux.evaluators.recording_files import load_recording

    recordings = [load_recording(name) for name in names]
    for recording in recordings:
        _note_processors(recording)
    return [recording.as_study(seed) for recording in recordings for seed in recording.seeds]
