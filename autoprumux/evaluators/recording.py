"""Recorded studies: what every (N, s, seed) of one task, data set and model yielded.

Left out are checkpoints, histories and the correctness of single examples.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from autoprumux.config import flatten, study_to_dict, without_added
from autoprumux.errors import NoBaselineError, StudyMismatchError
from autoprumux.records import (
    HOPELESS,
    Candidate,
    Failure,
    Measurement,
    StudyRecord,
    Throughput,
    TrialRecord,
)
from autoprumux.study_files import DEFAULT_PRESET, load_study
from autoprumux.timing import require_one_setting


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """What one candidate yielded with one seed."""

    candidate: Candidate
    seed: int
    """Seed of the study; the seed of the training follows from it and the candidate."""
    measurement: Measurement | None = None
    failure: Failure | None = None
    """Present exactly if `measurement` is not."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """All trials of one task, data set and model."""

    name: str
    """Name of the two files."""
    task: str
    data_fingerprint: str
    trainer: Mapping[str, Any]
    """Recipe of the trainings, as a study's configuration has it."""
    commands: tuple[str, ...]
    """They make the trials again, one per study."""
    environment: Mapping[str, tuple[str, ...]]
    """Versions and hardware of the speeds; several values where trials differ."""
    recorded: str
    """Date of the export, ISO 8601."""
    trials: tuple[RecordedTrial, ...]
    """In order of candidate and seed."""
    trained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those of the trainings and their date (`recorded`), if the speeds are of a later day; see
    `retimed`."""

    @property
    def processors(self) -> tuple[str, ...]:
        """Processors that trials were measured on; which of several a trial was, is not kept."""
        return tuple(filter(None, self.environment.get("processor", ())))

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Recorded candidates, failed ones included, in order."""
        return tuple(sorted({trial.candidate for trial in self.trials}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the studies, in order."""
        return tuple(sorted({trial.seed for trial in self.trials}))

    def retimed(
        self, speeds: Sequence[Throughput | None], environment: Mapping[str, str], *, recorded: str
    ) -> "Recording":
        """Yield the same trainings with the speeds of another machine or version.

        Args:
            speeds: One for each trial, None for what failed.
            environment: Versions and hardware that they were measured with.
            recorded: Today, ISO 8601.
        """
        trials = (
            replace(
                trial,
                measurement=trial.measurement
                and replace(trial.measurement, throughput=speed or trial.measurement.throughput),
            )
            for trial, speed in zip(self.trials, speeds, strict=True)
        )
        return replace(
            self,
            trials=tuple(trials),
            environment={name: (value,) for name, value in sorted(environment.items())},
            recorded=recorded,
            trained=self.trained or {**self.environment, "recorded": (self.recorded,)},
        )

    def of_best_settings(self) -> "Recording":
        """Yield the recording with one trial per cell (N, s) and seed: its best setting's.

        The cell (1, 0) keeps the study's own hyperparameters; see `StudyRecord.best_settings`.
        """
        best: dict[tuple[Candidate, int], RecordedTrial] = {}
        for trial in self.trials:
            key = (trial.candidate.cell, trial.seed)
            if key not in best or _is_better(trial, best[key]):
                best[key] = trial
        trials = (replace(trial, candidate=trial.candidate.cell) for trial in best.values())
        return replace(self, trials=tuple(trials))

    def as_study(self, seed: int) -> StudyRecord:
        """Yield the trials of one seed as the study that they were."""
        own = [trial for trial in self.trials if trial.seed == seed]
        widths = sorted({trial.candidate.num_instances for trial in own})
        sparsities = sorted({trial.candidate.sparsity for trial in own})
        is_known = len(self.processors) == 1
        environment = {"processor": self.processors[0]} if is_known else {}
        return StudyRecord(
            name=f"{self.name} seed {seed}",
            task=self.task,
            config={
                "search": {"widths": widths, "sparsities": sparsities},
                "trainer": self.trainer,
            },
            config_hash="",
            data_fingerprint=self.data_fingerprint,
            seed=seed,
            budgets=(),
            trials=tuple(
                TrialRecord(
                    number=number,
                    candidate=trial.candidate,
                    state="failed" if trial.measurement is None else "complete",
                    measurement=trial.measurement
                    and replace(trial.measurement, environment=environment),
                    failure=trial.failure,
                )
                for number, trial in enumerate(own)
            ),
        )


def record_studies(studies: Sequence[StudyRecord], *, name: str, recorded: str) -> Recording:
    """Yield the finished trials of studies that differ in nothing but seed and grid.

    Of two trials of the same candidate and seed the one of the earlier study stays.

    Args:
        studies: At least one, with their trials.
        name: Name of the recording; by default (empty) `TASK-DATA-MODEL`.
        recorded: Today, ISO 8601.

    Raises:
        NoBaselineError: If a study has no measured dense baseline.
        StudyMismatchError: If the studies differ in task, examples or recipe.
        MixedDevicesError: If speeds were measured in several settings, within a study or not.
    """
    first = studies[0]
    trials: dict[tuple[Candidate, int], RecordedTrial] = {}
    for study in studies:
        _require_comparable(first, study)
        for trial in study.trials:
            if trial.state != "running" and not _is_stopped(trial):
                recorded_trial = _recorded(trial, study.seed)
                trials.setdefault((trial.candidate, study.seed), recorded_trial)
    _require_timed_alike(studies)
    return Recording(
        name=name or _default_name(first),
        task=first.task,
        data_fingerprint=first.data_fingerprint,
        trainer=_without_folders(first.config.get("trainer", {})),
        commands=tuple(_command(study) for study in studies),
        environment=_environment(studies),
        recorded=recorded,
        trials=tuple(trials[key] for key in sorted(trials)),
    )


def _is_better(trial: RecordedTrial, other: RecordedTrial) -> bool:
    if other.candidate.is_baseline or trial.measurement is None:
        return False
    old = other.measurement
    return old is None or (trial.measurement.accuracy, trial.measurement.speedup) > (
        old.accuracy,
        old.speedup,
    )


def _is_stopped(trial: TrialRecord) -> bool:
    """True of a trial stopped early: what it would have yielded is not known."""
    return trial.failure is not None and trial.failure.cause == HOPELESS


def _require_comparable(first: StudyRecord, study: StudyRecord) -> None:
    if study.baseline is None:
        raise NoBaselineError(
            f"Study `{study.name}` has no measured dense baseline (N=1 s=0.00) yet, so it cannot "
            f"be recorded. Run `autoprumux search --task {study.task}`."
        )
    if (study.task, study.data_fingerprint) != (first.task, first.data_fingerprint):
        raise StudyMismatchError(
            f"Studies `{first.name}` and `{study.name}` have other examples "
            f"({first.data_fingerprint} and {study.data_fingerprint}); record them apart."
        )
    before, after = _recipe(first), _recipe(study)
    changed = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    if changed:
        raise StudyMismatchError(
            f"Studies `{first.name}` and `{study.name}` differ in `{changed[0]}` "
            f"({before.get(changed[0])!r} and {after.get(changed[0])!r}); record them apart."
        )


def _require_timed_alike(studies: Sequence[StudyRecord]) -> None:
    """Refuse speeds of several settings: a replay takes trials of all seeds together."""
    timings = [study.timing for study in studies if study.timing is not None]
    processors = (timing.processor for timing in timings)
    own = timings[0]._replace(processor=next(filter(None, processors), ""))
    others = {
        f"trial {trial.number} of study `{study.name}`": trial.measurement.timing
        for study in studies
        for trial in study.trials
        if trial.measurement is not None
    }
    require_one_setting(
        f"The recording of study `{studies[0].name}`",
        own,
        others,
        "Record studies of each setting apart; search anew one that has several.",
    )


def _recipe(study: StudyRecord) -> dict[str, Any]:
    recipe = dict(flatten({"trainer": study.config.get("trainer", {})}))
    recipe.pop("trainer.checkpoint_interval_s", None)  # changes what a crash costs, no result
    return without_added(recipe)


def _recorded(trial: TrialRecord, seed: int) -> RecordedTrial:
    measurement = trial.measurement
    if measurement is not None:
        phases = tuple(replace(phase, history=()) for phase in measurement.phases)
        measurement = replace(
            measurement, phases=phases, correctness=b"", checkpoint="", environment={}
        )
    return RecordedTrial(
        candidate=trial.candidate, seed=seed, measurement=measurement, failure=trial.failure
    )


def _default_name(study: StudyRecord) -> str:
    recipe = _without_folders(study.config.get("trainer", {}))
    sources = (recipe.get(part, {}).get("source", part) for part in ("data", "model"))
    return "-".join([study.task, *(PurePath(source).name.lower() for source in sources)])


def _without_folders(trainer: Any) -> dict[str, Any]:
    """Yield a recipe whose absolute paths are names; folders say nothing on another machine."""
    recipe = dict(trainer)
    for part, key in (("data", "source"), ("model", "source"), ("model", "wide_source")):
        source = recipe.get(part, {}).get(key, "")
        if PurePath(source).is_absolute():
            recipe[part] = {**recipe[part], key: PurePath(source).name}
    return recipe


def _command(study: StudyRecord) -> str:
    """Yield the search that makes a study again: what differs from the default preset."""
    default = dict(flatten(study_to_dict(load_study(DEFAULT_PRESET))))
    trainer = _without_folders(study.config.get("trainer", {}))
    config = {**study.config, "trainer": trainer}
    is_own_task = isinstance(trainer.get("task"), Mapping)
    task = f"{study.task}.toml" if is_own_task else study.task
    words = ["autoprumux", "search", "--task", task, "--study", study.name]
    for key, value in flatten(config):
        if default.get(key) != value and key not in ("name", "trainer.task"):
            words += ["--set", "=".join(_setting(key, value))]
    return shlex.join(words)


def _setting(key: str, value: Any) -> tuple[str, str]:
    """Yield key and value as a study file has them; JSON's scalars and lists are TOML's."""
    if key == "search.budgets":
        points = ",".join(f"{100 * budget:g}" for budget in value)
        return "search.budget", json.dumps(points)
    if isinstance(value, Mapping):  # the range of a hyperparameter
        pairs = ", ".join(f"{name} = {json.dumps(item)}" for name, item in value.items())
        return key, f"{{{pairs}}}"
    return key, json.dumps(value)


def _environment(studies: Sequence[StudyRecord]) -> dict[str, tuple[str, ...]]:
    pairs = sorted(set(_environment_pairs(studies)))
    return {key: tuple(v for k, v in pairs if k == key) for key, _ in pairs}


def _environment_pairs(studies: Sequence[StudyRecord]) -> Iterator[tuple[str, str]]:
    for study in studies:
        for measurement in study.measured.values():
            yield from measurement.environment.items()
