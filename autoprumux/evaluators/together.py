"""One search by several processes of one launch: the first searches, the others help it train."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from autoprumux.errors import DismissedError, LostProcessError
from autoprumux.evaluators.trained import CheckTask, TrainedEvaluator, TrainTask, map_error
from trainers import errors as trainer_errors
from trainers.processes import Processes, join

T = TypeVar("T")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dismissal:
    """Ends what the first process asks of the others."""

    outcome: Any = None
    is_finished: bool = False
    """False if the first one was interrupted or failed."""


def lead_or_help(lead: Callable[[Processes], T]) -> T:
    """Run `lead` in the first process while the others help it; all yield what it yields.

    Raises:
        LostProcessError: If a process is gone.
        DismissedError: In the others, if `lead` raised something.
    """
    try:
        processes = join()
        try:
            return _lead(processes, lead) if processes.is_first else _help(processes)
        finally:
            processes.leave()
    except trainer_errors.LostProcessError as error:
        raise map_error(error) from error


def _lead(processes: Processes, lead: Callable[[Processes], T]) -> T:
    try:
        outcome = lead(processes)
    except LostProcessError:
        raise  # nobody is there to be dismissed
    except BaseException as error:
        processes.agree(error)  # ends a task that the others may have begun
        processes.tell(Dismissal())
        raise
    processes.tell(Dismissal(outcome, is_finished=True))
    return outcome


def _help(processes: Processes) -> Any:
    """Do what the first process says until it has an outcome, and yield that."""
    evaluator: TrainedEvaluator | None = None
    with _left_to_the_first():
        while True:
            try:
                task = processes.tell(None)
                if isinstance(task, Dismissal):
                    break
                if isinstance(task, CheckTask):
                    evaluator = _opened(task, processes)
                else:
                    assert isinstance(task, TrainTask)
                    assert evaluator is not None
                    evaluator.help_to_evaluate(task)
            except trainer_errors.LostProcessError:
                raise
            except Exception:
                # The first process knows of it, and alone decides whether the search goes on.
                _logger.debug("process %d failed", processes.rank, exc_info=True)
    if not task.is_finished:
        raise DismissedError("The first process ended without an answer; it tells why.")
    return task.outcome


def _opened(task: CheckTask, processes: Processes) -> TrainedEvaluator:
    evaluator = TrainedEvaluator(
        task.config,
        task.cache_dir,
        task.seed,
        task.sparsities,
        task.widths,
        processes=processes,
    )
    evaluator.trainer.check(task.sparsities, task.widths)
    return evaluator


@contextmanager
def _left_to_the_first() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM: they reach all, and the first process says when to leave."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
