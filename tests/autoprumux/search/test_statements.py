"""What a trial costs the database: counts, so that no clock is asked."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, event

from autoprumux.config import StudyConfig
from autoprumux.search.runner import run_study
from autoprumux.storage.database import Database, open_database


@pytest.fixture
def counted() -> Iterator[dict[str, int]]:
    """Statements and transactions of all engines."""
    counts = {"statements": 0, "transactions": 0}

    def note_statement(*_: object) -> None:
        counts["statements"] += 1

    def note_begin(*_: object) -> None:
        counts["transactions"] += 1

    event.listen(Engine, "before_cursor_execute", note_statement)
    event.listen(Engine, "begin", note_begin)
    yield counts
    event.remove(Engine, "before_cursor_execute", note_statement)
    event.remove(Engine, "begin", note_begin)


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    opened = open_database(request.getfixturevalue("postgresql_url"))
    yield opened
    opened.close()


def test_a_trial_takes_as_many_statements_whatever_the_number_of_trials(
    anywhere: Database,
    config: Callable[..., StudyConfig],
    make_evaluator: Any,
    listener: Any,
    monkeypatch: pytest.MonkeyPatch,
    counted: dict[str, int],
) -> None:
    seen: list[dict[str, int]] = []
    told = listener.trial_started

    def note(*arguments: Any) -> None:
        seen.append(dict(counted))
        told(*arguments)

    monkeypatch.setattr(listener, "trial_started", note)

    run_study(config(max_trials=9, stop_chance=0.0), anywhere, make_evaluator(), listener)

    assert len(seen) == 9
    for before, after in pairwise(seen[3:]):
        assert after["statements"] - before["statements"] <= 50
        assert after["transactions"] - before["transactions"] <= 7
