"""Ctrl-C and SIGTERM, the same for every command.

A signal is remembered, because the exception that it raises may not arrive: libraries turn a
`KeyboardInterrupt` into errors of their own, and Python drops one that comes up in the callback of
a weak reference or in a finalizer. Whatever comes up after a signal counts as the interruption,
and one that was dropped is raised again.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import typer

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command with its sentence; the last is that of a closed terminal."""

AGAIN_EVERY_S = 0.5
"""Seconds after which a dropped interruption is raised again."""

_Handler = Callable[[int, FrameType | None], Any] | int | None


class StoppedError(KeyboardInterrupt):
    """The command is to end at once.

    A class of its own, because Python ends by the signal itself, exit code aside, once a plain
    `KeyboardInterrupt` has gone through code that was made from text.
    """


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Interrupt the block at the first of `ENDING`, whatever libraries make of it.

    A second signal does not disturb what is being cleaned up, a third does.

    Raises:
        StoppedError: If a signal came, in place of any exception that came up after it.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are the main one's
        yield
        return
    raiser = _Raiser()
    before = {number: _replace_handler(number, raiser) for number in ENDING}
    alarm = signal.signal(signal.SIGALRM, raiser.raise_again)
    hook, sys.unraisablehook = sys.unraisablehook, raiser.unraisable(sys.unraisablehook)
    try:
        yield
    except typer.Exit:  # not an error: the command is done
        raise
    except Exception as error:
        if raiser.raised is not None:
            raise StoppedError from error
        raise
    finally:
        raiser.is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        _restore_handler(signal.SIGALRM, alarm)
        sys.unraisablehook = hook
        for number, handler in before.items():
            _restore_handler(number, handler)


@contextmanager
def leaving_at_checkpoints() -> Iterator[threading.Event]:
    """Yield an event that the first of `ENDING` sets; the second is handled as without this.

    Raises:
        StoppedError: If a second signal came, in place of what came up after it.
    """
    stop, at_once = threading.Event(), threading.Event()
    before: dict[int, _Handler] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if not stop.is_set():
            stop.set()
            _tell("Leaving at the next checkpoint; once more to leave at once.")
            return
        at_once.set()
        handler = before[number]
        if callable(handler):
            handler(number, frame)
        else:
            raise StoppedError

    if threading.current_thread() is threading.main_thread():
        before = {number: _replace_handler(number, handle) for number in ENDING}
    try:
        yield stop
    except (Exception, KeyboardInterrupt) as error:
        if at_once.is_set():
            raise StoppedError from error
        raise
    finally:
        for number, handler in before.items():
            _restore_handler(number, handler)


class _Raiser:
    """Raises the interruption, and again until somebody handles it."""

    def __init__(self) -> None:
        self.raised: StoppedError | None = None
        self.is_over = False
        self._num_signals = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._num_signals += 1
        if self._num_signals > 2 or not self._is_unwinding():
            self._raise()

    def raise_again(self, number: int, frame: FrameType | None) -> None:
        """Handle the alarm."""
        if not self.is_over and not self._is_unwinding():
            self._raise()

    def unraisable(self, otherwise: Callable[[Any], Any]) -> Callable[[Any], None]:
        """Yield a hook that keeps quiet about an interruption that will be raised again."""

        def hook(unraisable: Any) -> None:
            if not isinstance(unraisable.exc_value, StoppedError):
                otherwise(unraisable)

        return hook

    def _raise(self) -> None:
        self.raised = StoppedError()
        signal.setitimer(signal.ITIMER_REAL, AGAIN_EVERY_S, AGAIN_EVERY_S)
        raise self.raised

    def _is_unwinding(self) -> bool:
        """Yield whether what was interrupted is in a `finally` or `except` of an interruption."""
        return _comes_from_stop(sys.exception())


def _comes_from_stop(error: BaseException | None) -> bool:
    seen, ahead = set[int](), [error]
    while ahead:
        error = ahead.pop()
        if isinstance(error, StoppedError):
            return True
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            ahead += [error.__cause__, error.__context__]
    return False


def _replace_handler(number: int, handler: Callable[[int, FrameType | None], None]) -> _Handler:
    """Set a handler, unless the signal is ignored as after `nohup`; yield the one before."""
    before = signal.getsignal(number)
    if before is not signal.SIG_IGN:
        signal.signal(number, handler)
    return before


def _restore_handler(number: int, before: _Handler) -> None:
    signal.signal(number, signal.SIG_DFL if before is None else before)


def _tell(sentence: str) -> None:
    """Write to stderr past Python's buffers, which the signal may have found in use."""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"{sentence}\n".encode())
