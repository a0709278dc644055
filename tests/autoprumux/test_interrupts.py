"""Ctrl-C and SIGTERM in every command; the signals are real."""

import contextlib
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from autoprumux.cli import interrupts
from autoprumux.cli.interrupts import (
    ENDING,
    StoppedError,
    leaving_at_checkpoints,
    stopped_by_signals,
)
from autoprumux.cli.main import app
from autoprumux.errors import InputError

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "AGAIN_EVERY_S", 0.05)


def signalled() -> None:
    signal.raise_signal(signal.SIGINT)


def work_on() -> None:
    """Work until interrupted."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(0.01)
    pytest.fail("never interrupted")


def turn_into_an_error() -> None:
    try:
        signalled()
    except KeyboardInterrupt as error:
        raise RuntimeError("release unlocked lock") from error


def turn_into_an_error_of_ours() -> None:
    try:
        signalled()
    except KeyboardInterrupt:
        raise InputError("The weights cannot be read.", cause="checkpoint") from None


def drop_in_a_weak_reference() -> None:
    class Watched:
        pass

    watched = Watched()
    reference = weakref.ref(watched, lambda _: signalled())
    del watched
    assert reference() is None
    work_on()


def drop_in_a_finalizer() -> None:
    class Watched:
        def __del__(self) -> None:
            signalled()

    Watched()
    work_on()


def catch_everything() -> None:
    with contextlib.suppress(BaseException):  # as libraries do
        signalled()
    work_on()


def lose_in_another_thread() -> None:
    """The exception of the thread that noticed is what comes up."""
    with contextlib.suppress(KeyboardInterrupt):
        signalled()
    raise RuntimeError("cannot schedule new futures after shutdown")


@pytest.mark.parametrize(
    "meet",
    [
        signalled,
        turn_into_an_error,
        turn_into_an_error_of_ours,
        drop_in_a_weak_reference,
        drop_in_a_finalizer,
        catch_everything,
        lose_in_another_thread,
    ],
)
def test_whatever_a_library_makes_of_a_signal_stops_the_command(
    meet: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoppedError), stopped_by_signals():
        meet()

    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("number", ENDING)
def test_every_ending_signal_stops_the_command(number: signal.Signals) -> None:
    with pytest.raises(StoppedError), stopped_by_signals():
        signal.raise_signal(number)


@pytest.mark.parametrize("error", [ValueError("no number"), typer.Exit(3)])
def test_errors_without_a_signal_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, stopped_by_signals():
        raise error

    assert caught.value is error


def test_command_that_is_done_after_a_dropped_signal_keeps_its_exit_code() -> None:
    def finish() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signalled()
        raise typer.Exit(1)

    with pytest.raises(typer.Exit) as caught, stopped_by_signals():
        finish()

    assert caught.value.exit_code == 1


def test_second_signal_does_not_disturb_the_cleaning_up() -> None:
    cleaned = []

    def work() -> None:
        try:
            signalled()
        finally:
            signalled()
            time.sleep(3 * interrupts.AGAIN_EVERY_S)
            cleaned.append(True)

    with pytest.raises(StoppedError), stopped_by_signals():
        work()

    assert cleaned == [True]


def test_third_signal_ends_a_cleaning_up_that_hangs() -> None:
    def work() -> None:
        try:
            signalled()
        finally:
            signalled()
            signalled()
            work_on()

    with pytest.raises(StoppedError), stopped_by_signals():
        work()


def test_handlers_are_as_before_and_nothing_is_raised_later() -> None:
    before = [signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)]
    hook = sys.unraisablehook

    with pytest.raises(StoppedError), stopped_by_signals():
        signalled()
    with leaving_at_checkpoints():
        pass
    time.sleep(3 * interrupts.AGAIN_EVERY_S)

    assert [signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)] == before
    assert sys.unraisablehook is hook


def test_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with stopped_by_signals(), leaving_at_checkpoints() as stop:
            signal.raise_signal(signal.SIGHUP)
    finally:
        after = signal.signal(signal.SIGHUP, before)

    assert not stop.is_set()
    assert after is signal.SIG_IGN


@pytest.mark.parametrize("number", ENDING)
def test_first_signal_asks_to_leave_and_the_second_stops(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    reached = []

    def work() -> None:
        with leaving_at_checkpoints() as stop:
            signal.raise_signal(number)
            reached.append(stop.is_set())
            turn_into_an_error()

    with pytest.raises(StoppedError), stopped_by_signals():
        work()

    assert reached == [True]
    told = "Leaving at the next checkpoint; once more to leave at once.\n"
    assert capfd.readouterr().err == told


def test_other_threads_may_run_commands_too() -> None:
    done = []

    def run() -> None:
        with stopped_by_signals(), leaving_at_checkpoints() as stop:
            done.append(stop.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert done == [False]


COMMANDS = {
    "search": (
        ["search"],
        "autoprumux.cli.search.run_search",
        "Finished trials are stored; the same command takes the search up again.",
    ),
    "query": (["query"], "autoprumux.api.stored.query", "Nothing is changed."),
    "report": (
        ["report"],
        "autoprumux.cli.report.report_task",
        "Each file is whole: as it was, or new.",
    ),
    "export": (
        ["export", "--out", "model"],
        "autoprumux.cli.export.choose_stored",
        "Nothing is in model; the same command starts anew.",
    ),
    "predict": (
        ["predict", "model", "in.tsv"],
        "autoprumux.cli.predict.predict_file",
        "No file is written.",
    ),
    "bench": (
        ["bench"],
        "autoprumux.api.bench.bench",
        "Speeds are stored together at the end, so none of these are.",
    ),
    "pretrain": (
        ["pretrain", "--out", "model"],
        "autoprumux.cli.pretrain.pretrain_model",
        "Finished phases stay; the same command goes on at the last checkpoint.",
    ),
    "record": (
        ["record", "--study", "a", "--out", "recordings"],
        "autoprumux.cli.recordings.export_recorded",
        "The same command writes the recording anew.",
    ),
    "validate": (
        ["validate"],
        "autoprumux.cli.recordings.validate_studies",
        "Nothing is changed.",
    ),
    "replay": (
        ["replay", "--recorded", "a"],
        "autoprumux.cli.recordings.replay_recorded",
        "Nothing is changed.",
    ),
}


@pytest.mark.parametrize("meet", [signalled, turn_into_an_error, turn_into_an_error_of_ours])
@pytest.mark.parametrize(("command", "use_case", "sentence"), COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_what_it_leaves_behind(
    command: list[str],
    use_case: str,
    sentence: str,
    meet: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    monkeypatch.chdir(tmp_path)

    def work(*_: object, **__: object) -> None:
        if command == ["search"]:  # there the first signal only asks to leave
            signalled()
        meet()

    monkeypatch.setattr(use_case, work)

    result = CliRunner().invoke(app, command)

    assert result.exit_code == 130
    assert result.stderr == f"\nStopped. {sentence}\n"
    assert result.stdout == ""


def test_export_that_a_signal_finds_done_says_where_the_model_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    def work(*_: object, **__: object) -> None:
        (tmp_path / "model").mkdir()
        signalled()

    monkeypatch.setattr("autoprumux.cli.export.choose_stored", work)

    result = CliRunner().invoke(app, ["export", "--out", "model"])

    assert result.stderr == "\nStopped. The model is in model.\n"
