"""`autoprumux worker`."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from autoprumux.api.processes import launch
from autoprumux.api.worker import run_worker
from autoprumux.cli.options import (
    ArtifactDir,
    CacheDir,
    Storage,
    StudyName,
    Verbose,
    in_one_sentence,
)
from autoprumux.config import DEFAULT_STORAGE

WORKER_EPILOG = """\b
Example:
  autoprumux worker --storage postgresql://me@server/studies --study qnli-minilm
"""


@in_one_sentence
def worker(
    *,
    storage: Storage = DEFAULT_STORAGE,
    study: StudyName = None,
    cache_dir: CacheDir = None,
    artifacts: ArtifactDir = None,
    verbose: Verbose = False,
) -> None:
    """Join a study that `search` began, from another process or machine.

    Trains trials until the search ends. Ctrl-C or SIGTERM: leaves at the next checkpoint and gives
    the trial back; a second time: leaves at once.
    """
    stop = threading.Event()
    try:
        with _leaving_at(stop):
            outcome = run_worker(
                study, storage=storage, cache_dir=cache_dir, artifacts=artifacts, stop=stop
            )
    except _LeftAtOnceError:
        raise KeyboardInterrupt from None
    except KeyboardInterrupt:
        print("Left the study; what was begun is given back.")
    else:
        if launch().is_first:
            print(f"The search of {outcome.study.name} is over: {outcome.stop_reason}.")


class _LeftAtOnceError(KeyboardInterrupt):
    """The second signal."""


@contextmanager
def _leaving_at(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at the first SIGINT or SIGTERM, and interrupt at the second."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise _LeftAtOnceError
        stop.set()
        print("Leaving at the next checkpoint; once more to leave at once.", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
