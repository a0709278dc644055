"""A database file with the demo study in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoprumux.records import Choice, StudyRecord
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository


def save_all(repository: Repository, study: StudyRecord) -> None:
    """Store a study with its trials, as a search would."""
    repository.save_study(study)
    for trial in study.trials:
        seed = trial.measurement.seed if trial.measurement else 0
        repository.claim(study.name, trial.candidate, trial.number)
        choice = trial.choice or Choice(reason="none")
        repository.save_start(study.name, trial.number, trial.candidate, seed, choice)
        if trial.measurement is not None:
            repository.save_measurement(study.name, trial.number, trial.measurement)
        if trial.failure is not None:
            repository.save_failure(study.name, trial.number, trial.failure)


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'autoprumux.db'}"


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    opened = open_database(storage_url)
    yield opened
    opened.close()


@pytest.fixture
def repository(database: Database) -> Repository:
    return Repository(database)


@pytest.fixture
def store() -> Callable[[Repository, StudyRecord], None]:
    """Function that stores a study with its trials."""
    return save_all


@pytest.fixture
def demo_database(database: Database, repository: Repository, demo_study: StudyRecord) -> Database:
    """Database that holds the demo study."""
    save_all(repository, demo_study)
    return database
