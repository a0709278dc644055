"""What serves a search as its prior is stored once."""

from collections.abc import Callable, Iterator

import pytest

from autoprumux.errors import UnknownStudyError
from autoprumux.records import StudyRecord
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.priors import PriorBook
from autoprumux.storage.repository import Repository

SERVED = {"second": frozenset({0, 2, 5}), "first": frozenset({1})}


@pytest.fixture(params=["sqlite", "postgresql"])
def book(
    request: pytest.FixtureRequest, demo_study_record: Callable[..., StudyRecord]
) -> Iterator[PriorBook]:
    """The prior of a study beside two others."""
    name = "storage_url" if request.param == "sqlite" else "postgresql_url"
    database = open_database(request.getfixturevalue(name))
    for study in ("first", "second", "new"):
        Repository(database).save_study(demo_study_record(name=study))
    yield PriorBook(database, "new")
    database.close()


def test_nothing_serves_before_anybody_has_looked(book: PriorBook) -> None:
    assert book.load() is None


def test_what_serves_is_stored_in_its_order(book: PriorBook) -> None:
    assert book.keep(SERVED) == SERVED

    stored = book.load()
    assert stored == SERVED
    assert list(stored) == ["second", "first"]
    assert PriorBook(book.database, "first").load() is None


@pytest.mark.parametrize("first", [SERVED, {}], ids=["two studies", "none"])
def test_the_first_to_store_decides(book: PriorBook, first: dict[str, frozenset[int]]) -> None:
    book.keep(first)

    assert book.keep({"first": frozenset({7})}) == first
    assert book.load() == first


def test_a_study_that_is_not_there_is_named(database: Database) -> None:
    with pytest.raises(UnknownStudyError, match="holds no study `gone`"):
        PriorBook(database, "gone").load()


def test_the_view_counts_the_trials_of_each_study(book: PriorBook) -> None:
    book.keep(SERVED)

    with book.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM prumux_priors ORDER BY place").all()

    assert [tuple(row)[:4] for row in rows] == [("new", 1, "second", 3), ("new", 2, "first", 1)]
