"""Trials that another worker had begun: left alone while it lives, taken up once it is dead."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import text

from autoprumux.config import StudyConfig
from autoprumux.records import Candidate, Choice
from autoprumux.search import presence
from autoprumux.search.acquisition import Proposal
from autoprumux.search.claims import StoredClaims
from autoprumux.search.presence import HEARTBEAT_S, STALE_S, WATCHED_S, is_alive, new_worker
from autoprumux.search.runner import run_study
from autoprumux.storage.attempts import AttemptBook, Presence, Worker
from autoprumux.storage.database import Database
from autoprumux.storage.repository import Repository

Config = Callable[..., StudyConfig]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A live process that is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which this process's own clock is ahead; a test may add to them."""
    ahead = [0.0]
    monkeypatch.setattr(presence, "_clock", lambda: time.monotonic() + ahead[0])
    return ahead


def start_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def leave_running(database: Database, config: StudyConfig, worker: Worker) -> Candidate:
    """Let `worker` begin a trial of the study and claim its candidate."""
    storage = database.optuna_storage()
    study = optuna.load_study(study_name=config.name, storage=storage)
    candidate = Candidate(5, 0.6)
    proposal = Proposal(candidate, Choice(reason="by another process"))
    trial = study.ask()
    book = AttemptBook(database, config.name)
    book.join(worker)
    claims = StoredClaims(storage, config.name, Repository(database), book, worker)
    claims.open(trial.number)
    assert claims.take(trial.number, proposal)
    return candidate


def worker_in(process: int, start: str = "1", machine: str | None = None) -> Worker:
    """Yield a worker in another process, on this machine unless another is named."""
    worker = new_worker()
    return replace(
        worker,
        name=f"{machine or 'here'}:{process}",
        machine=machine or worker.machine,
        process=process,
        process_start=start,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="start times are read from /proc")
def test_trial_of_a_live_process_is_left_alone_until_that_ends(
    database: Database,
    config: Config,
    make_evaluator: Any,
    listener: Any,
    sleeper: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator, settings = make_evaluator(), config(max_trials=50, stop_chance=0.0)
    run_study(config(max_trials=1), database, evaluator, listener)
    theirs = leave_running(database, settings, worker_in(sleeper.pid, start_of(sleeper.pid)))
    evaluated_before_the_end: list[Candidate] = []

    def end_the_other() -> None:
        while "waiting for 1 trial of other workers" not in listener.announced:
            time.sleep(0.02)
        evaluated_before_the_end.extend(evaluator.evaluated)
        sleeper.kill()

    monkeypatch.setattr("autoprumux.search.runner.LONGEST_WAIT_S", 0.1)
    killer = threading.Thread(target=end_the_other)
    killer.start()
    outcome = run_study(settings, database, evaluator, listener)
    killer.join()

    assert len(evaluated_before_the_end) == 8
    assert theirs not in evaluated_before_the_end
    assert evaluator.evaluated == [*evaluated_before_the_end, theirs]
    assert outcome.stop_reason == "all 9 candidates are tried"


def test_trial_of_a_dead_process_is_taken_up(
    database: Database, config: Config, make_evaluator: Any, listener: Any
) -> None:
    evaluator = make_evaluator()
    run_study(config(max_trials=1), database, evaluator, listener)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    theirs = leave_running(database, config(), worker_in(process.pid))

    run_study(config(max_trials=2), database, evaluator, listener)

    assert evaluator.evaluated == [Candidate(1, 0.0), theirs]


def test_process_that_reuses_the_number_of_a_dead_one_is_not_mistaken_for_it(
    database: Database, config: Config, make_evaluator: Any, listener: Any
) -> None:
    evaluator = make_evaluator()
    run_study(config(max_trials=1), database, evaluator, listener)
    theirs = leave_running(database, config(), worker_in(os.getppid()))

    run_study(config(max_trials=2), database, evaluator, listener)

    assert theirs in evaluator.evaluated


@pytest.mark.parametrize(("silent_s", "watched_s"), [(90, 0), (151, 0), (151, 26), (-3600, 26)])
def test_trial_of_another_machine_is_taken_up_once_its_heartbeats_have_stopped(
    database: Database,
    config: Config,
    make_evaluator: Any,
    listener: Any,
    silent_s: float,
    watched_s: float,
    clock: list[float],
) -> None:
    evaluator = make_evaluator()
    run_study(config(max_trials=1), database, evaluator, listener)
    theirs = leave_running(database, config(), worker_in(1, machine="elsewhere"))
    beat = (datetime.now(UTC) - timedelta(seconds=silent_s)).isoformat(timespec="milliseconds")
    with database.write() as connection:
        connection.execute(
            text("UPDATE prumux_workers SET beat_at = :beat WHERE machine = 'elsewhere'"),
            {"beat": beat},
        )

    assert all(is_alive(seen) for seen in AttemptBook(database, config().name).presences()[1:])
    clock[0] += watched_s
    run_study(config(max_trials=2, timeout_s=0.5), database, evaluator, listener)

    assert (theirs in evaluator.evaluated) == (silent_s > STALE_S and watched_s > WATCHED_S)


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_worker_whose_heartbeats_go_on_is_alive_whatever_the_clock_says(
    jump_s: float, clock: list[float]
) -> None:
    worker = worker_in(1, machine=f"elsewhere{jump_s}")

    for beat in range(30):
        clock[0] += HEARTBEAT_S
        silent = Presence(worker=worker, beat_at=str(beat), silent_s=jump_s, has_left=False)
        assert is_alive(silent)


def test_dead_worker_of_a_clock_that_was_set_back_is_noticed_all_the_same(
    clock: list[float],
) -> None:
    worker = worker_in(1, machine="ahead")
    last = Presence(worker=worker, beat_at="in an hour", silent_s=-3600.0, has_left=False)

    assert is_alive(last)
    clock[0] += STALE_S - 1
    assert is_alive(last)
    clock[0] += 2
    assert not is_alive(last)


def test_candidate_that_two_dead_processes_had_noted_is_given_once(
    database: Database, config: Config, make_evaluator: Any, listener: Any
) -> None:
    evaluator = make_evaluator()
    run_study(config(max_trials=1), database, evaluator, listener)
    theirs = leave_running(database, config(), worker_in(2**22 + 1))
    with pytest.raises(AssertionError):
        leave_running(database, config(), worker_in(2**22 + 2))

    run_study(config(max_trials=3), database, evaluator, listener)

    assert evaluator.evaluated.count(theirs) == 1
    assert len(set(evaluator.evaluated)) == 3
