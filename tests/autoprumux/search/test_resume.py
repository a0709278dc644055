"""A search killed at any point ends, when run again, with the rows of an undisturbed one."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from sqlalchemy import text

from autoprumux.config import StudyConfig
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.search.claims import StoredClaims
from autoprumux.search.runner import run_study
from autoprumux.search.sampler import PerformanceModelSampler
from autoprumux.storage.attempts import AttemptBook
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.storage.search_storage import SearchStorage

Config = Callable[..., StudyConfig]

UNREPEATABLE = ("started_at", "finished_at", "num_attempts")
"""Columns of `prumux_trials` that no second run can equal."""


class Killed(BaseException):
    """Stands for `kill -9`: nothing in the package may catch it."""


def rows(database: Database) -> tuple[list[dict[str, Any]], list[Any], list[Any]]:
    """Yield all that a search leaves: our trials, the claims and Optuna's trials."""
    with database.read() as connection:
        trials = connection.execute(text("SELECT * FROM prumux_trials ORDER BY number")).mappings()
        ours = [{k: v for k, v in row.items() if k not in UNREPEATABLE} for row in trials]
        claims = connection.execute(text("SELECT num_instances, sparsity FROM prumux_claims"))
        claimed = sorted(tuple(row) for row in claims)
    study = optuna.load_study(study_name="qnli-small", storage=database.optuna_storage())
    theirs = [
        (
            trial.number,
            trial.state,
            trial.params,
            trial.values,
            trial.system_attrs.get("constraints"),
            {k: v for k, v in trial.user_attrs.items() if k != "minutes"},
        )
        for trial in study.trials
    ]
    return ours, claimed, theirs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"folder": tmp_path_factory.mktemp("undisturbed")}


@pytest.fixture
def expected(
    undisturbed: dict[str, Any], config: Config, evaluator: Any, make_evaluator: Any, listener: Any
) -> Any:
    """Rows of an undisturbed run of the small study, made once."""
    if "rows" not in undisturbed:
        database = open_database(f"sqlite:///{undisturbed['folder']}/study.db")
        run_study(config(), database, make_evaluator(failing=evaluator.failing), listener)
        undisturbed["rows"] = rows(database)
        database.close()
    return undisturbed["rows"]


def kill_at(
    patch: pytest.MonkeyPatch, owner: Any, method: str, when: str, occurrence: int
) -> dict[str, int]:
    """Raise `Killed` before or after the given call of a method, counted from 1."""
    original = getattr(owner, method)
    calls = {"num": 0}

    def wrapper(*args: Any, **options: Any) -> Any:
        calls["num"] += 1
        is_due = calls["num"] == occurrence
        if is_due and when == "before":
            raise Killed
        result = original(*args, **options)
        if is_due:
            raise Killed
        return result

    patch.setattr(owner, method, wrapper)
    return calls


# Occurrence 1 is the baseline's trial, 3 the third.
CRASHES = [
    pytest.param(Repository, "save_study", "after", 1, id="study stored, unknown to Optuna"),
    pytest.param(optuna, "create_study", "after", 1, id="study made, not described"),
    pytest.param(PerformanceModelSampler, "before_trial", "before", 1, id="baseline created"),
    pytest.param(PerformanceModelSampler, "before_trial", "before", 3, id="trial created"),
    pytest.param(StoredClaims, "open", "after", 3, id="worker noted"),
    pytest.param(StoredClaims, "take", "before", 3, id="proposed, not noted"),
    pytest.param(Repository, "claim", "before", 3, id="noted, not claimed"),
    pytest.param(Repository, "claim", "after", 1, id="baseline claimed, not stored"),
    pytest.param(Repository, "claim", "after", 3, id="claimed, not stored"),
    pytest.param(optuna.Trial, "suggest_int", "after", 3, id="one parameter stored"),
    pytest.param(optuna.Trial, "suggest_float", "after", 3, id="parameters stored"),
    pytest.param(Repository, "save_start", "before", 3, id="chosen, not started"),
    pytest.param(Repository, "save_start", "after", 3, id="started"),
    pytest.param(SyntheticEvaluator, "_phases", "before", 1, id="baseline training"),
    pytest.param(SyntheticEvaluator, "_phases", "before", 3, id="training"),
    pytest.param(Repository, "save_measurement", "before", 3, id="measured, not stored"),
    pytest.param(Repository, "save_measurement", "after", 1, id="baseline stored, not told"),
    pytest.param(Repository, "save_measurement", "after", 3, id="measurement stored, not told"),
    pytest.param(Repository, "save_failure", "before", 1, id="failed, not stored"),
    pytest.param(Repository, "save_failure", "after", 1, id="failure stored, not told"),
    pytest.param(SearchStorage, "set_trial_attrs", "after", 7, id="noted"),
    pytest.param(SearchStorage, "set_trial_attrs", "before", 8, id="files stored, not named"),
    pytest.param(SearchStorage, "set_trial_attrs", "after", 8, id="files named, not told"),
    pytest.param(AttemptBook, "end", "before", 3, id="told, attempt not ended"),
    pytest.param(optuna.Study, "tell", "before", 3, id="attributes stored, not told"),
    pytest.param(optuna.Study, "tell", "after", 3, id="told"),
]


@pytest.mark.parametrize(("owner", "method", "when", "occurrence"), CRASHES)
def test_search_killed_at_any_point_ends_with_the_rows_of_an_undisturbed_one(
    database: Database,
    config: Config,
    evaluator: Any,
    listener: Any,
    expected: Any,
    owner: Any,
    method: str,
    when: str,
    occurrence: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, owner, method, when, occurrence)
        with pytest.raises(Killed):
            run_study(config(), database, evaluator, listener)

    run_study(config(), database, evaluator, listener)

    assert rows(database) == expected


def test_search_killed_again_and_again_ends_with_the_rows_of_an_undisturbed_one(
    database: Database, config: Config, evaluator: Any, listener: Any, expected: Any
) -> None:
    num_kills = 0
    for owner, method, when in (
        (StoredClaims, "take", "before"),
        (Repository, "claim", "after"),
        (optuna.Trial, "suggest_int", "after"),
        (Repository, "save_start", "after"),
        (Repository, "save_measurement", "after"),
        (optuna.Study, "tell", "after"),
    ) * 2:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, owner, method, when, 1)
            try:
                run_study(config(), database, evaluator, listener)
            except Killed:
                num_kills += 1

    run_study(config(), database, evaluator, listener)

    assert num_kills >= 8
    assert rows(database) == expected


def test_interrupted_trial_is_taken_up_with_its_number_seed_and_reason(
    database: Database, config: Config, make_evaluator: Any, listener: Any
) -> None:
    evaluator = make_evaluator()
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, SyntheticEvaluator, "_phases", "before", 2)
        with pytest.raises(Killed):
            run_study(config(), database, evaluator, listener)
    number, candidate, choice, _ = listener.started[-1]
    listener.started.clear()

    run_study(config(max_trials=2), database, evaluator, listener)

    assert listener.started == [(number, candidate, choice, True)]


def test_keyboard_interrupt_leaves_the_trial_to_be_taken_up(
    database: Database, config: Config, make_evaluator: Any, listener: Any
) -> None:
    evaluator = make_evaluator()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "evaluate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_study(config(), database, evaluator, listener)
    study = Repository(database).load_study("qnli-small")
    outcome = run_study(config(max_trials=1), database, evaluator, listener)

    assert [trial.state for trial in study.trials] == ["running"]
    assert [trial.state for trial in outcome.study.trials] == ["complete"]


@pytest.mark.parametrize("is_chained", [True, False])
def test_interrupt_that_a_library_turned_into_an_error_fails_no_trial(
    database: Database, config: Config, make_evaluator: Any, listener: Any, is_chained: bool
) -> None:
    evaluator, stop = make_evaluator(), threading.Event()

    def convert(*_: object) -> None:
        if not is_chained:
            stop.set()
            raise RuntimeError("cannot schedule new futures after shutdown")
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("release unlocked lock") from None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "evaluate", convert)
        with pytest.raises(KeyboardInterrupt):
            run_study(config(), database, evaluator, listener, stop=stop)
    study = Repository(database).load_study("qnli-small")
    outcome = run_study(config(max_trials=1), database, evaluator, listener)

    assert [trial.state for trial in study.trials] == ["running"]
    assert [trial.state for trial in outcome.study.trials] == ["complete"]


# What follows plays other processes.


SCRIPT = """
import sys, time
from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.records import Candidate
from autoprumux.search.runner import run_study
from autoprumux.storage.database import open_database
from trainers.config import TrainerConfig

class SlowEvaluator(SyntheticEvaluator):
    def evaluate(self, *arguments):
        time.sleep(0.3)
        return super().evaluate(*arguments)

class Silent:
    def announce(self, *_): pass
    def trial_started(self, *_): pass
    def progress(self, *_): pass
    def trial_finished(self, *_): pass

search = SearchConfig(
    widths=(1, 2, 5), sparsities=(0.0, 0.6, 0.9), max_trials=int(sys.argv[2]), stop_chance=0.0
)
config = StudyConfig(name="qnli-small", search=search, trainer=TrainerConfig(task="qnli"))
evaluator = SlowEvaluator(failing=frozenset({Candidate(1, 0.9)}))
run_study(config, open_database(sys.argv[1]), evaluator, Silent())
"""
"""The small study with slower trials, for a process of its own; arguments: URL, cap."""


def start_search(url: str, cap: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, url, str(cap)])


@pytest.mark.parametrize("num_started", [1, 3])
def test_killed_process_is_followed_by_one_that_ends_with_the_rows_of_an_undisturbed_run(
    database: Database,
    config: Config,
    evaluator: Any,
    listener: Any,
    expected: Any,
    num_started: int,
) -> None:
    process = start_search(database.engine.url.render_as_string(hide_password=False), 4)
    while len(started(database)) < num_started:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    run_study(config(), database, evaluator, listener)

    ours, claims, theirs = rows(database)
    assert [without_durations(row) for row in ours] == [
        without_durations(row) for row in expected[0]
    ]
    assert claims == expected[1]
    assert [row[:5] for row in theirs] == [row[:5] for row in expected[2]]


@pytest.mark.slow
def test_two_processes_share_the_work_and_no_candidate_is_tried_twice(database: Database) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    processes = [start_search(url, 50) for _ in range(2)]

    codes = [process.wait(timeout=300) for process in processes]

    assert codes == [0, 0]
    candidates = [(row["num_instances"], row["sparsity"]) for row in started(database)]
    assert len(candidates) == len(set(candidates)) == 9


def started(database: Database) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT * FROM prumux_starts")).mappings())


def without_durations(row: dict[str, Any]) -> dict[str, Any]:
    """A process of its own has no phases in its cache, so its trials take longer."""
    return {k: v for k, v in row.items() if k not in ("duration_s", "reason")}
