"""Searches and the making of models.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.api.processes import together
from autoprumux.config import DEFAULT_STORAGE, StudyConfig
from autoprumux.errors import UsageError
from autoprumux.study_files import DEFAULT_PRESET, Override, load_study, load_task

if TYPE_CHECKING:
    from autoprumux.search.runner import Listener, SearchOutcome
    from trainers.processes import Processes


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
    artifacts: Path | str | None = None,
    listener: "Listener | None" = None,
    stop: threading.Event | None = None,
) -> "SearchOutcome":
    """Run or resume the study `config`; data and model are checked before the database is touched.

    Args:
        config: The study.
        storage: Database URL.
        cache_dir: Directory of checkpoints; None means the user's cache directory.
        artifacts: Folder or `s3://BUCKET/PREFIX` of the trials' logs, histories and models; None
            means a folder beside an SQLite file, without models, and none for a database server.
        listener: Told what happens; None means lines on stderr.
        stop: Set from elsewhere to leave at the next checkpoint, as `KeyboardInterrupt` does.

    Of several processes that `torchrun` or `accelerate launch` started, the first one searches and
    the others help it train; all yield the same.

    Raises:
        KeyboardInterrupt: If it was to stop.
        AutoPrumuxError: See `autoprumux.errors`.
    """

    def lead(processes: "Processes | None") -> "SearchOutcome":
        return _search(config, (storage, cache_dir, artifacts), listener, processes, stop)

    return together(lead)


def _search(
    config: StudyConfig,
    places: tuple[str, Path | None, Path | str | None],
    listener: "Listener | None",
    processes: "Processes | None",
    stop: threading.Event | None,
) -> "SearchOutcome":
    """Search with the database, checkpoints and artifacts at `places`."""
    from autoprumux.api.calibrating import calibrate_first
    from autoprumux.dashboard.writer import NoteWriter
    from autoprumux.evaluators.trained import TrainedEvaluator
    from autoprumux.report.progress import ConsoleListener
    from autoprumux.search.runner import run_study
    from autoprumux.storage.database import open_database

    storage, cache_dir, artifacts = places
    evaluator = TrainedEvaluator(
        config.trainer,
        (cache_dir or default_cache_dir()).absolute(),  # stored, and read from elsewhere
        config.search.seed,
        config.search.sparsities,
        config.search.widths,
        processes=processes,
    )
    evaluator.check()
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt  # reading the data may have taken minutes
    database = open_database(storage)
    try:
        with ExitStack() as stack:
            shown = listener or stack.enter_context(ConsoleListener())
            _announce(config, evaluator.data_fingerprint, shown)
            if config.search.calibrate:
                calibrate_first(config, database, shown.announce, stop)
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt  # it may have come while a calibration was looked for
            noted = NoteWriter(shown, database, config.name)
            outcome = run_study(config, database, evaluator, noted, artifacts=artifacts, stop=stop)
            noted.write_all()
            return outcome
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


def task_override(task: str, spelling: str) -> Override:
    """Yield the override for a task's name or for the TOML file of a task of one's own.

    Raises:
        ConfigError: If the file cannot be read or is no TOML.
    """
    return Override("task", load_task(task) if task.endswith(".toml") else task, spelling)


def default_cache_dir() -> Path:
    """Yield the directory of checkpoints when none is named."""
    from platformdirs import user_cache_path

    return user_cache_path("autoprumux")


def _announce(config: StudyConfig, data_fingerprint: str, listener: "Listener") -> None:
    from autoprumux.report.tables import BUILTIN_NOTE

    trainer, wide = config.trainer, config.trainer.model.wide_source
    listener.announce(
        f"study {config.name}: task {trainer.task_name}, data {trainer.data.source}, "
        f"model {trainer.model.source}{f' and {wide}' if wide else ''}, "
        f"N in {_listed(config.search.widths)}, "
        f"s in {_listed(config.search.sparsities)}"
    )
    if data_fingerprint.startswith("builtin:"):
        listener.announce(BUILTIN_NOTE)


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
