"""Joining a study that another process has begun.

Heavy libraries are imported inside the function, so that importing this module costs nothing.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.api.processes import together
from autoprumux.api.search import default_cache_dir
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.study_files import stored_study

if TYPE_CHECKING:
    from autoprumux.search.runner import Listener, SearchOutcome
    from trainers.processes import Processes


def run_worker(
    study: str | None = None,
    *,
    storage: str = DEFAULT_STORAGE,
    cache_dir: Path | None = None,
    artifacts: Path | str | None = None,
    listener: "Listener | None" = None,
    stop: threading.Event | None = None,
) -> "SearchOutcome":
    """Join the study `study` with its stored configuration until its search ends.

    Of several processes that `torchrun` or `accelerate launch` started, the first one joins and
    the others help it train; all yield the same.

    Args:
        study: Name of the study; None takes the one searched last.
        storage: Database URL.
        cache_dir: Directory of checkpoints; None means the user's cache directory.
        artifacts: Folder or `s3://BUCKET/PREFIX` of the trials' logs, histories and models; None
            means a folder beside an SQLite file, without models, and none for a database server.
        listener: Told what happens; None means lines on stderr.
        stop: Set from elsewhere to leave at the next checkpoint, as `KeyboardInterrupt` does.

    Raises:
        UnknownStudyError: If the database holds no such study.
        StudyMismatchError: If the data on this machine are not the study's, or this version of the
            program reads its recipe otherwise.
        InputError: If this machine lacks data or model.
        KeyboardInterrupt: If it was to stop.
        AutoPrumuxError: See `autoprumux.errors`.
    """

    def lead(processes: "Processes | None") -> "SearchOutcome":
        return _join(study, (storage, cache_dir, artifacts), (listener, stop), processes)

    return together(lead)


def _join(
    study: str | None,
    places: tuple[str, Path | None, Path | str | None],
    outside: "tuple[Listener | None, threading.Event | None]",
    processes: "Processes | None",
) -> "SearchOutcome":
    """Join with the database, checkpoints and artifacts at `places`."""
    from contextlib import ExitStack

    from autoprumux.dashboard.writer import NoteWriter
    from autoprumux.evaluators.trained import TrainedEvaluator
    from autoprumux.report.progress import ConsoleListener
    from autoprumux.search.runner import run_study
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository

    (storage, cache_dir, artifacts), (listener, stop) = places, outside
    database = open_database(storage, must_exist=True)
    try:
        config = stored_study(Repository(database).load_study(study))
        evaluator = TrainedEvaluator(
            config.trainer,
            (cache_dir or default_cache_dir()).absolute(),  # stored, and read from elsewhere
            config.search.seed,
            config.search.sparsities,
            config.search.widths,
            processes=processes,
        )
        with ExitStack() as stack:
            shown = listener or stack.enter_context(ConsoleListener())
            shown.announce(f"joining study {config.name}: task {config.trainer.task_name}")
            noted = NoteWriter(shown, database, config.name)
            outcome = run_study(config, database, evaluator, noted, artifacts=artifacts, stop=stop)
            noted.write_all()
            return outcome
    finally:
        database.close()
