"""The storage on a real PostgreSQL server, which the tests start themselves."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest

from autoprumux.records import Candidate, StudyRecord
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.storage.views import VIEWS

GRID = [Candidate(n, s / 10) for n in (1, 2, 5, 10) for s in range(10)]


@pytest.fixture
def server(postgresql_url: str) -> Iterator[Database]:
    opened = open_database(postgresql_url)
    yield opened
    opened.close()


def test_study_comes_back_as_it_was_saved(
    server: Database, demo_study: StudyRecord, store: Callable[[Repository, StudyRecord], None]
) -> None:
    store(Repository(server), demo_study)
    store(Repository(server), demo_study)

    assert Repository(server).load_study() == demo_study


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_views_tell_the_same_as_on_sqlite(
    server: Database,
    demo_database: Database,
    demo_study: StudyRecord,
    store: Callable[[Repository, StudyRecord], None],
    view: str,
) -> None:
    store(Repository(server), demo_study)

    assert _rows(server, view) == _rows(demo_database, view)


def test_threads_that_race_for_candidates_share_them_without_duplicates(
    server: Database, demo_study: StudyRecord
) -> None:
    repository = Repository(server)
    repository.save_study(demo_study)

    def claim_all(worker: int) -> int:
        return sum(
            repository.claim(demo_study.name, candidate, 1000 * worker + index)
            for index, candidate in enumerate(GRID)
        )

    with ThreadPoolExecutor(4) as pool:
        nums_claimed = list(pool.map(claim_all, range(4)))

    assert sum(nums_claimed) == len(GRID)


def test_optuna_shares_the_server(server: Database, demo_study: StudyRecord) -> None:
    storage = server.optuna_storage()

    optuna.create_study(storage=storage, study_name=demo_study.name)

    assert [study.study_name for study in storage.get_all_studies()] == [demo_study.name]
    storage.remove_session()
    storage.engine.dispose()


def _rows(database: Database, view: str) -> list[list[tuple[str, Any]]]:
    """Yield the rows of a view without times, in an order of their own."""
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"SELECT * FROM {view}").mappings().all()
    timeless = [[item for item in row.items() if not item[0].endswith("_at")] for row in rows]
    return sorted(timeless, key=str)
