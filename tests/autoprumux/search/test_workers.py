"""Several worker processes on one study: nothing twice, nothing lost, the answer of one."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import worker_race
from sqlalchemy import text
from worker_race import NAME, Race

from autoprumux.answers import answer_budgets
from autoprumux.records import Candidate, StudyRecord
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

NO_FILES = "logs and histories of trials are not kept: beside a database server"


@dataclass(frozen=True)
class Place:
    """An empty database and how many work on it."""

    url: str
    num_workers: int
    num_sparsities: int
    num_killed: int

    def run_race(self, **settings: Any) -> list[int]:
        """Run workers to the end; yield their exit codes."""
        return run_race(self.url, self.num_workers, num_sparsities=self.num_sparsities, **settings)

    @property
    def candidates(self) -> set[Candidate]:
        return Race(num_sparsities=self.num_sparsities).candidates


@pytest.fixture(
    params=[
        "sqlite-3-4-1",
        "postgresql-4-4-2",
        pytest.param("sqlite-4-10-3", marks=pytest.mark.slow),
        pytest.param("postgresql-8-10-3", marks=pytest.mark.slow),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind, *numbers = request.param.split("-")
    url = (
        f"sqlite:///{tmp_path}/study.db"
        if kind == "sqlite"
        else request.getfixturevalue("postgresql_url")
    )
    return Place(url, *map(int, numbers))


def run_race(url: str, num_workers: int, **settings: Any) -> list[int]:
    """Run workers to the end; yield their exit codes."""
    command = [sys.executable, "-W", "error", worker_race.__file__, url, str(num_workers)]
    done = subprocess.run(
        [*command, json.dumps(settings)], capture_output=True, text=True, timeout=3600
    )
    told = [line for line in done.stderr.splitlines() if not line.startswith(NO_FILES)]
    assert told == []
    codes: list[int] = json.loads(done.stdout)
    return codes


def load(url: str) -> StudyRecord:
    database = open_database(url)
    study = Repository(database).load_study(NAME)
    database.close()
    return study


def rows(url: str, query: str) -> list[dict[str, Any]]:
    database = open_database(url)
    with database.read() as connection:
        found = [dict(row) for row in connection.execute(text(query)).mappings()]
    database.close()
    return found


def optuna_states(url: str) -> dict[int, str]:
    query = "SELECT number, CAST(state AS VARCHAR(20)) AS state FROM trials"
    return {row["number"]: row["state"] for row in rows(url, query)}


def trials_per_second(study: StudyRecord, url: str) -> float:
    times = rows(url, "SELECT started_at, finished_at FROM prumux_trials")
    first = min(datetime.fromisoformat(row["started_at"]) for row in times)
    last = max(datetime.fromisoformat(row["finished_at"]) for row in times)
    return len(study.trials) / (last - first).total_seconds()


def best(study: StudyRecord) -> list[Candidate | None]:
    """Yield the best measured model per budget."""
    answers = answer_budgets(study, study.budgets)
    return [answer.best.candidate if answer.best else None for answer in answers]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], StudyRecord]:
    """Function: the whole grid of so many sparsities as one worker leaves it."""

    @cache
    def run(num_sparsities: int) -> StudyRecord:
        url = f"sqlite:///{tmp_path_factory.mktemp('alone')}/study.db"
        assert run_race(url, 1, num_sparsities=num_sparsities, sleep_s=0.0) == [0]
        return load(url)

    return run


def test_workers_try_every_candidate_once_and_answer_as_one_does(
    place: Place, alone: Callable[[int], StudyRecord]
) -> None:
    codes = place.run_race(sleep_s=0.1)

    study = load(place.url)
    assert codes == [0] * place.num_workers
    assert len(study.trials) == len(place.candidates)
    assert {trial.candidate for trial in study.trials} == place.candidates
    assert study.measured.keys() == alone(place.num_sparsities).measured.keys()
    assert [t.state for t in study.trials].count("failed") == 1
    assert best(study) == best(alone(place.num_sparsities))
    states = optuna_states(place.url)
    assert set(states.values()) == {"COMPLETE", "FAIL"}
    assert {trial.number for trial in study.trials if trial.state == "complete"} == {
        number for number, state in states.items() if state == "COMPLETE"
    }
    assert len({row["worker"] for row in rows(place.url, "SELECT * FROM prumux_tries")}) > 1


def test_workers_that_are_killed_lose_no_trial(
    place: Place, alone: Callable[[int], StudyRecord]
) -> None:
    codes = place.run_race(sleep_s=0.2, num_killed=place.num_killed)

    study = load(place.url)
    num_left = place.num_workers - place.num_killed
    assert sorted(codes) == [-9] * place.num_killed + [0] * num_left
    assert len(study.trials) == len(place.candidates)
    assert {trial.candidate for trial in study.trials} == place.candidates
    assert {trial.state for trial in study.trials} == {"complete", "failed"}
    assert best(study) == best(alone(place.num_sparsities))
    assert "RUNNING" not in optuna_states(place.url).values()


def test_workers_together_keep_the_cap(place: Place) -> None:
    codes = place.run_race(sleep_s=0.05, max_trials=11)

    study = load(place.url)
    assert codes == [0] * place.num_workers
    assert len(study.trials) == 11
    assert study.baseline is not None
    assert study.trials[0].candidate.is_baseline


@pytest.mark.slow
def test_workers_that_choose_by_prediction_answer_as_one_does(
    place: Place, tmp_path: Path
) -> None:
    settings = {"sampler": "performance_model", "stop_chance": 0.05, "num_examples": 2000}
    single = f"sqlite:///{tmp_path}/single.db"
    alone = Place(single, 1, place.num_sparsities, 0)

    assert alone.run_race(sleep_s=0.0, **settings) == [0]
    assert place.run_race(**settings) == [0] * place.num_workers

    trials = load(place.url).trials
    assert best(load(place.url)) == best(load(single))
    assert len({trial.candidate for trial in trials}) == len(trials)


@pytest.mark.slow
def test_eight_workers_are_at_least_five_times_as_fast(
    postgresql_server: Any, postgresql_url: str
) -> None:
    """The evaluator sleeps, so that choosing and storing are a small part on two cores too."""
    from postgresql_server import new_database

    with new_database(postgresql_server, "single") as single:
        run_race(single, 1, sleep_s=2.0)
        alone = trials_per_second(load(single), single)
    run_race(postgresql_url, 8, sleep_s=2.0)
    together = trials_per_second(load(postgresql_url), postgresql_url)

    assert together >= 5 * alone, f"{together:.2f} against {alone:.2f} trials per second"


@pytest.mark.slow
def test_four_workers_never_meet_a_locked_file_in_two_thousand_trials(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"

    codes = run_race(url, 4, num_sparsities=500, sleep_s=0.0)

    study = load(url)
    assert codes == [0] * 4
    assert len({trial.candidate for trial in study.trials}) == len(study.trials) == 2000
    assert {trial.state for trial in study.trials} == {"complete", "failed"}
