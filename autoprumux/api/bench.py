"""Speeds on this machine: of stored models, and the calibration that predicts the others.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoprumux.api.calibrating import calibrate_speeds
from autoprumux.api.places import is_within, known_folders
from autoprumux.api.stored import load_all_stored, load_stored, stored_recipe
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.errors import StorageError, UsageError
from autoprumux.records import (
    Calibration,
    Candidate,
    DeviceProfile,
    StudyRecord,
    Throughput,
    TrialRecord,
)
from trainers.config import ModelConfig, TrainerConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from autoprumux.evaluators.timed import ModelTimer

_DECIDE_SPEED = ("model", "data", "throughput")
"""Tables of a recipe that decide how fast its models are."""


@dataclass(frozen=True, kw_only=True)
class BenchSetting:
    """How to time; what is None is as the study has it, or as torch has it."""

    name: str | None = None
    """Of the device profile; None makes one that tells device, threads, batch and length."""
    batch_size: int | None = None
    """Groups in a batch."""
    length: int | None = None
    """Tokens in a sequence."""
    num_threads: int | None = None
    """CPU threads."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`, `cpu` or `cuda`."""

    def __post_init__(self) -> None:
        for option, value in (
            ("--batch-size", self.batch_size),
            ("--length", self.length),
            ("--threads", self.num_threads),
        ):
            if value is not None and value < 1:
                raise UsageError(f"`{option}` must be at least 1, got {value}.")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"`--device` must be one of auto, cpu, cuda, got {self.device!r}.")
        if self.name is not None and not self.name.strip():
            raise UsageError("`--name` must not be empty.")


@dataclass(frozen=True, kw_only=True)
class BenchOutcome:
    """What was timed, and where it is stored."""

    profile: DeviceProfile
    study: StudyRecord | None
    """None: a directory that is of no stored trial, so nothing was stored."""
    measured: tuple[tuple[Candidate | None, Throughput], ...] = ()
    """The dense baseline first; no candidate for a directory of no stored trial."""
    calibration: Calibration | None = None


def bench(
    target: str | None = None,
    *,
    task: str | None = None,
    storage: str = DEFAULT_STORAGE,
    calibrate: bool = False,
    setting: BenchSetting | None = None,
    report: "Callable[[str], None] | None" = None,
) -> BenchOutcome:
    """Time models on this machine and store the result, so that `query` answers for it.

    Args:
        target: Name of a study, whose trained models are timed, or the directory of one model;
            None takes the newest study.
        task: Takes the newest study of this task.
        storage: Database URL.
        calibrate: Times a few untrained models instead, in at most two minutes, and stores the law
            that predicts all others from them.
        setting: How to time.
        report: Told, in a line, what is being timed.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    setting, report = setting or BenchSetting(), report or (lambda _: None)
    directory = _directory_of(target)
    if directory is not None:
        if calibrate:
            raise UsageError("`--calibrate` needs a study, not the directory of a model.")
        return _bench_directory(directory, storage, setting)

    from autoprumux.hardware import require_baseline

    study = load_stored(storage, name=target, task=task)
    require_baseline(study)
    work = _calibrate_study if calibrate else _bench_study
    return work(study, storage, setting, report)


def _bench_study(
    study: StudyRecord, storage: str, setting: BenchSetting, report: "Callable[[str], None]"
) -> BenchOutcome:
    from autoprumux.evaluators.timed import model_timer
    from autoprumux.storage.database import open_database
    from autoprumux.storage.profiles import ProfileRepository

    trials = [trial for trial in study.trials if trial.measurement is not None]
    trials.sort(key=lambda trial: (not trial.candidate.is_baseline, trial.number))
    folders = known_folders(storage, None)
    database = open_database(storage, must_exist=True)
    try:
        profiles = ProfileRepository(database)
        with model_timer(recipe_of(study, setting), setting.num_threads) as timer:
            profile = timer.profile(setting.name or "")
            profiles.require_same(profile)
            measured = []
            for trial in trials:
                measured.append((trial, _time_trial(timer, trial, folders)))
                told = "" if _model_of(trial, folders) else ", untrained: its model is not here"
                report(f"{trial.candidate}: {measured[-1][1].speedup:.2f}x{told}")
        rows = [(trial.number, throughput) for trial, throughput in measured]
        profiles.save_throughputs(profile, study.name, rows)
    finally:
        database.close()
    by_candidate = tuple((trial.candidate, throughput) for trial, throughput in measured)
    return BenchOutcome(profile=profile, study=study, measured=by_candidate)


def _calibrate_study(
    study: StudyRecord, storage: str, setting: BenchSetting, report: "Callable[[str], None]"
) -> BenchOutcome:
    from autoprumux.answers import candidate_grid
    from autoprumux.evaluators.timed import model_timer
    from autoprumux.storage.database import open_database
    from autoprumux.storage.profiles import ProfileRepository

    started = time.monotonic()
    widths = sorted({candidate.num_instances for candidate in candidate_grid(study)})
    database = open_database(storage, must_exist=True)
    try:
        profiles = ProfileRepository(database)
        with model_timer(recipe_of(study, setting), setting.num_threads) as timer:
            profile = timer.profile(setting.name or "")
            profiles.require_same(profile)
            calibration = calibrate_speeds(timer, profile, widths, started, report)
        calibration = replace(calibration, duration_s=time.monotonic() - started)
        profiles.save_calibration(profile, calibration)
    finally:
        database.close()
    return BenchOutcome(profile=profile, study=study, calibration=calibration)


def _bench_directory(directory: Path, storage: str, setting: BenchSetting) -> BenchOutcome:
    from autoprumux.evaluators.timed import model_timer

    owner = _owner_of(directory, storage)
    recipe = TrainerConfig(model=ModelConfig(source=str(directory)), device=setting.device)
    config = _with_setting(recipe, setting) if owner is None else recipe_of(owner[0], setting)
    with model_timer(config, setting.num_threads) as timer:
        profile = timer.profile(setting.name or "")
        throughput = timer.measure_directory(directory)
    if owner is None:
        return BenchOutcome(profile=profile, study=None, measured=((None, throughput),))

    from autoprumux.storage.database import open_database
    from autoprumux.storage.profiles import ProfileRepository

    study, trial = owner
    database = open_database(storage, must_exist=True)
    try:
        rows = [(trial.number, throughput)]
        ProfileRepository(database).save_throughputs(profile, study.name, rows)
    finally:
        database.close()
    measured = ((trial.candidate, throughput),)
    return BenchOutcome(profile=profile, study=study, measured=measured)


def recipe_of(study: StudyRecord, setting: BenchSetting) -> TrainerConfig:
    """Yield what decides the speed of a study's models, in the setting asked for.

    Raises:
        StorageError: If the stored configuration has no recipe, or one not understood.
    """
    if not isinstance(study.config.get("trainer"), Mapping):
        raise StorageError(
            f"The stored configuration of study `{study.name}` lacks `trainer`, so its models "
            "cannot be built."
        )
    recipe = stored_recipe(study, only=[f"trainer.{table}" for table in _DECIDE_SPEED])
    return _with_setting(recipe, setting)


def _with_setting(recipe: TrainerConfig, setting: BenchSetting) -> TrainerConfig:
    throughput = replace(
        recipe.throughput,
        batch_size=setting.batch_size or recipe.throughput.batch_size,
        length=setting.length or recipe.throughput.length,
    )
    return replace(recipe, throughput=throughput, device=setting.device)


def _time_trial(timer: "ModelTimer", trial: TrialRecord, folders: tuple[Path, ...]) -> Throughput:
    from autoprumux.hardware import shape_of

    assert trial.measurement is not None
    shape = shape_of(trial.candidate, trial.measurement)
    return timer.measure(shape, _model_of(trial, folders))


def _model_of(trial: TrialRecord, folders: tuple[Path, ...]) -> str:
    """Yield the folder of the trial's model, empty if it is not here or not to be trusted."""
    assert trial.measurement is not None
    checkpoint = trial.measurement.checkpoint
    return checkpoint if is_within(checkpoint, folders) and Path(checkpoint).is_dir() else ""


def _directory_of(target: str | None) -> Path | None:
    """Yield the directory that `target` is, or None if it names a study."""
    if target is None:
        return None
    path = Path(target)
    if path.is_dir():
        return path
    if len(path.parts) > 1:
        raise UsageError(f"There is no folder `{target}`; name a model directory or a study.")
    return None


def _owner_of(directory: Path, storage: str) -> tuple[StudyRecord, TrialRecord] | None:
    """Yield the stored trial whose model is in `directory`, if the database is there."""
    file = storage.removeprefix("sqlite:///")
    if file != storage and not Path(file).exists():  # a model can be timed without a database
        return None
    studies = load_all_stored(storage)
    place = directory.resolve()
    for study in studies:
        for trial in study.trials:
            found = trial.measurement.checkpoint if trial.measurement is not None else ""
            if found and Path(found).resolve() == place:
                return study, trial
    return None
