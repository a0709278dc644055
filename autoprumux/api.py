"""The use cases as functions, for Python users and for the command line alike.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprumux.config import DEFAULT_STORAGE, SearchConfig, StudyConfig, parse_budgets
from autoprumux.errors import (
    NoBaselineError,
    TooFewTrialsError,
    UnknownStudyError,
    UsageError,
)
from autoprumux.study_files import DEFAULT_PRESET, Override, load_study, load_task

if TYPE_CHECKING:
    from autoprumux.query import BudgetAnswer
    from autoprumux.records import StudyRecord
    from autoprumux.search.runner import Listener, SearchOutcome
    from autoprumux.validation.study import Validation


@dataclass(frozen=True, kw_only=True)
class QueryOutcome:
    """What the database answers."""

    study: "StudyRecord"
    answers: "tuple[BudgetAnswer, ...]"


@dataclass(frozen=True, kw_only=True)
class ValidationOutcome:
    """How good the surrogates are on the studies asked for."""

    validations: "tuple[Validation, ...]"
    left_out: tuple[str, ...]
    """Per study that is too small: the sentence that says so."""


def search_task(
    task: str = "qnli",
    budget: str = "2",
    *,
    preset: str = DEFAULT_PRESET,
    storage: str = DEFAULT_STORAGE,
    settings: Mapping[str, object] | None = None,
) -> "SearchOutcome":
    """Train trials until the fastest model within `budget` is settled, and yield the answer.

    Run again with the same arguments, it resumes.

    Args:
        task: `mnli`, `qnli`, `qqp`, `sst2`, or the path of a TOML file with a task of one's own.
        budget: Largest accuracy loss in percentage points: `2`, `1,3,10` or `0:10:0.5`.
        preset: Name of a preset or path of a study file.
        storage: Database URL.
        settings: Further keys of the study file, for example `{"search.max_trials": 6}`.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    overrides = [
        task_override(task, "task"),
        Override("search.budget", budget, "budget"),
        *(Override(key, value, key) for key, value in (settings or {}).items()),
    ]
    return run_search(load_study(preset, overrides), storage=storage)


def run_search(
    config: StudyConfig,
    *,
    storage: str = DEFAULT_STORAGE,
    cache_dir: Path | None = None,
    listener: "Listener | None" = None,
) -> "SearchOutcome":
    """Run or resume the study `config`; data and model are checked before the database is touched.

    Args:
        config: The study.
        storage: Database URL.
        cache_dir: Directory of checkpoints; None means the user's cache directory.
        listener: Told what happens; None means lines on stderr.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from autoprumux.evaluators.trained import TrainedEvaluator
    from autoprumux.report.progress import ConsoleListener
    from autoprumux.search.runner import run_study
    from autoprumux.storage.database import open_database

    evaluator = TrainedEvaluator(
        config.trainer,
        cache_dir or default_cache_dir(),
        config.search.seed,
        config.search.sparsities,
    )
    evaluator.check()
    database = open_database(storage)
    try:
        with ExitStack() as stack:
            shown = listener or stack.enter_context(ConsoleListener())
            _announce(config, evaluator.data_fingerprint, shown)
            return run_study(config, database, evaluator, shown)
    finally:
        database.close()


def pretrain_model(directory: Path, widths: Sequence[int], *, seed: int = 0) -> None:
    """Make the built-in model: phases 1 and 2 from scratch on the generator's text.

    Args:
        directory: Gets a model directory `n{N}` for every width; finished ones are left alone.
        widths: Mux widths N; 1 is always made, the wider ones start from it.
        seed: Seed of texts, weights and groups.

    Raises:
        UsageError: If a width is below 1.
        EvaluationError: If a training fails or a file cannot be written.
    """
    if not widths or min(widths) < 1:
        raise UsageError(f"`--widths` must be whole numbers of at least 1, got {_listed(widths)}.")

    from autoprumux.evaluators.trained import pretrain_builtin
    from autoprumux.report.progress import ConsoleListener

    with ConsoleListener() as listener:
        pretrain_builtin(directory, widths, seed=seed, report=listener.progress)


def query_task(
    task: str | None = None,
    budget: str | None = None,
    *,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
) -> QueryOutcome:
    """Yield the best models per budget from the database alone; nothing is trained.

    Args:
        task: Takes the newest study of this task; None takes the newest of all.
        budget: Percentage points, see `search_task`; None means the budgets of the study.
        study: Takes the study of this name.
        storage: Database URL.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    budgets = None if budget is None else parse_budgets(budget)

    from autoprumux.query import answer_budgets

    record = _load_study(storage, name=study, task=task)
    return QueryOutcome(study=record, answers=answer_budgets(record, budgets or record.budgets))


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

    records = [_load_study(storage, name=study) for study in studies]
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
    from autoprumux.validation.study import validate_study

    studies = _recorded_studies(recorded) if recorded else _stored_studies(storage)
    asked = [s for s in studies if study in (None, s.name) and task in (None, s.task)]
    if not asked:
        names = ", ".join(f"`{s.name}` (task `{s.task}`)" for s in studies) or "no studies"
        raise UnknownStudyError(f"There is no such study to validate; there are {names}.")
    validations, refusals = [], []
    for record in asked:
        try:
            validations.append(validate_study(record, studies))
        except (NoBaselineError, TooFewTrialsError) as error:
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
    num_seeds: int = 5,
    max_trials: int | None = None,
) -> list[dict[str, Any]]:
    """Yield, per sampler, what its searches would have done on recorded trainings.

    Args:
        recorded: Name or file of a recording.
        budget: Percentage points, see `search_task`.
        samplers: Names of `autoprumux.search.replay.SAMPLERS`.
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
    recording = load_recording(recorded)
    RecordedEvaluator(recording).check()
    space = SearchSpace(recording.candidates)
    return [
        summarise(
            [
                replay_search(
                    lambda: RecordedEvaluator(recording), space, replace(search, seed=seed), name
                )
                for seed in range(num_seeds)
            ]
        )
        for name in names
    ]


def _recorded_studies(names: Sequence[str]) -> "list[StudyRecord]":
    from autoprumux.evaluators.recording_files import load_recording

    recordings = [load_recording(name) for name in names]
    return [recording.as_study(seed) for recording in recordings for seed in recording.seeds]


def _stored_studies(storage: str) -> "list[StudyRecord]":
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository

    database = open_database(storage, must_exist=True)
    try:
        repository = Repository(database)
        return [repository.load_study(study.name) for study in repository.list_studies()]
    finally:
        database.close()


def _load_study(storage: str, *, name: str | None, task: str | None = None) -> "StudyRecord":
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository

    database = open_database(storage, must_exist=True)
    try:
        return Repository(database).load_study(name=name, task=task)
    finally:
        database.close()


def report_task(
    task: str | None = None,
    budget: str | None = None,
    *,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    out: Path = Path("report.html"),
    png: Path | None = None,
) -> "StudyRecord":
    """Write one self-contained HTML page about a stored study, and yield the study.

    Args:
        task: Takes the newest study of this task; None takes the newest of all.
        budget: Percentage points, see `search_task`; None means the budgets of the study.
        study: Takes the study of this name.
        storage: Database URL.
        out: The page; a file that is there is replaced.
        png: If given, gets the measured front as a picture for a paper.

    Raises:
        UsageError: If a file cannot be written or a package that draws is not installed.
        AutoPrumuxError: See `autoprumux.errors`.
    """
    budgets = None if budget is None else parse_budgets(budget)

    from autoprumux.report.page.write import require_places, write_report
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository

    require_places(out, png)
    database = open_database(storage, must_exist=True)
    try:
        record = Repository(database).load_study(name=study, task=task)
    finally:
        database.close()
    write_report(record, budgets or record.budgets, database.url, out=out, png=png)
    return record


def task_override(task: str, spelling: str) -> Override:
    """Yield the override for a task's name or for the TOML file of a task of one's own.

    Raises:
        ConfigError: If the file cannot be read or is no TOML.
    """
    return Override("task", load_task(task) if task.endswith(".toml") else task, spelling)


def _announce(config: StudyConfig, data_fingerprint: str, listener: "Listener") -> None:
    from autoprumux.report.tables import BUILTIN_NOTE

    trainer = config.trainer
    listener.announce(
        f"study {config.name}: task {trainer.task_name}, data {trainer.data.source}, "
        f"model {trainer.model.source}, N in {_listed(config.search.widths)}, "
        f"s in {_listed(config.search.sparsities)}"
    )
    if data_fingerprint.startswith("builtin:"):
        listener.announce(BUILTIN_NOTE)


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def default_cache_dir() -> Path:
    """Yield the directory of checkpoints when none is named."""
    from platformdirs import user_cache_path

    return user_cache_path("autoprumux")
