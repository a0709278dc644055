"""`autoprumux worker`."""

from autoprumux.api.processes import launch
from autoprumux.api.worker import run_worker
from autoprumux.cli.interrupts import StoppedError, leaving_at_checkpoints
from autoprumux.cli.options import (
    Artifacts,
    CacheDir,
    Storage,
    StudyName,
    Verbose,
    in_one_sentence,
    show,
)
from autoprumux.config import DEFAULT_STORAGE

WORKER_EPILOG = """\b
Example:
  autoprumux worker --storage postgresql://me@server/studies --study qnli-minilm
"""


@in_one_sentence("What was begun is given back.")
def worker(
    *,
    storage: Storage = DEFAULT_STORAGE,
    study: StudyName = None,
    cache_dir: CacheDir = None,
    artifacts: Artifacts = None,
    verbose: Verbose = False,
) -> None:
    """Join a study that `search` began, from another process or machine.

    Trains trials until the search ends. Ctrl-C or SIGTERM: leaves at the next checkpoint and gives
    the trial back; a second time: leaves at once.
    """
    try:
        with leaving_at_checkpoints() as stop:
            outcome = run_worker(
                study, storage=storage, cache_dir=cache_dir, artifacts=artifacts, stop=stop
            )
    except StoppedError:
        raise
    except KeyboardInterrupt:
        print("Left the study; what was begun is given back.")
    else:
        if launch().is_first:
            show(f"The search of {outcome.study.name} is over: {outcome.stop_reason}.")
