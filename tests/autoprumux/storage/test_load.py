"""What a study costs does not grow faster than it must: counts, so that no clock is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from autoprumux.records import Candidate, Failure, Measurement, StudyRecord
from autoprumux.storage.access import stored_rows
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.reading import Rows, StoredRow, Wanted, read_study
from autoprumux.storage.repository import Repository

ENVIRONMENT = {"processor": "Imaginary 9000", "python_version": "3.11", "platform": "here"}


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """Collect the statements of the block."""
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def grown(study: StudyRecord, num_trials: int) -> StudyRecord:
    """The demo study with so many trials, every candidate once."""
    first = study.trials[0]
    assert first.measurement is not None
    trials = [
        replace(first, number=n, candidate=Candidate(1 + n % 20, round(0.001 * (n // 20), 3)))
        for n in range(num_trials)
    ]
    return replace(study, trials=tuple(trials))


@pytest.mark.parametrize("num_trials", [20, 60])
def test_a_query_takes_as_many_statements_whatever_the_number_of_trials(
    num_trials: int,
    demo_study: StudyRecord,
    store: Callable[[Repository, StudyRecord], None],
    repository: Repository,
    storage_url: str,
) -> None:
    store(repository, grown(demo_study, num_trials))
    fetched: list[str] = []

    with stored_rows(storage_url) as (rows, place):

        def noted(table: str, /, **where: Wanted) -> list[StoredRow]:
            fetched.append(table)
            return list(rows(table, **where))

        counting: Rows = noted
        record = read_study(counting, place, None, None, is_brief=True)

    assert len(record.measured) == num_trials
    assert sorted(fetched) == [
        "prumux_budgets",
        "prumux_environments",
        "prumux_failure_causes",
        "prumux_measurements",
        "prumux_starts",
        "prumux_studies",
        "prumux_throughputs",
    ]


def test_a_study_that_is_loaded_again_reads_only_what_is_new(
    demo_study: StudyRecord,
    store: Callable[[Repository, StudyRecord], None],
    repository: Repository,
    database: Database,
) -> None:
    study = grown(demo_study, 40)
    store(repository, study)
    reader = Repository(database)
    with counted(database) as first:
        assert reader.load_study() == study

    with counted(database) as again:
        loaded = reader.load_study()

    assert loaded == study
    assert len(again) < len(first)
    assert not any("prumux_measurements.accuracy" in statement for statement in again)


def test_trials_that_start_late_and_end_late_are_found(
    demo_study: StudyRecord, demo_measurement: Callable[..., Measurement], storage_url: str
) -> None:
    """Of two workers the one with the smaller number may be slower, in starting and in ending."""
    writer_database, reader_database = open_database(storage_url), open_database(storage_url)
    writer, reader = Repository(writer_database), Repository(reader_database)
    name, choice = demo_study.name, demo_study.trials[0].choice
    assert choice is not None
    writer.save_study(replace(demo_study, trials=()))
    candidates = {0: Candidate(1, 0.0), 1: Candidate(2, 0.0), 2: Candidate(5, 0.0)}

    def start(number: int) -> None:
        writer.save_start(name, number, candidates[number], 0, choice)

    def states() -> list[tuple[int, str]]:
        return [(trial.number, trial.state) for trial in reader.load_study(name).trials]

    start(0)
    start(2)
    assert states() == [(0, "running"), (2, "running")]
    start(1)
    assert states() == [(0, "running"), (1, "running"), (2, "running")]
    writer.save_measurement(name, 2, demo_measurement(candidates[2]))
    assert states() == [(0, "running"), (1, "running"), (2, "complete")]
    writer.save_failure(name, 0, Failure(cause="nan", message="It was no number."))
    writer.save_measurement(name, 1, demo_measurement(candidates[1]))
    assert states() == [(0, "failed"), (1, "complete"), (2, "complete")]
    assert reader.load_study(name) == Repository(reader_database).load_study(name)
    writer_database.close()
    reader_database.close()


def test_a_brief_study_lacks_only_what_no_answer_needs(
    demo_study: StudyRecord, repository: Repository, store: Callable[..., None], tmp_path: Path
) -> None:
    from autoprumux import query
    from autoprumux.answers import answer_budgets

    trials = [
        replace(t, measurement=t.measurement and replace(t.measurement, environment=ENVIRONMENT))
        for t in demo_study.trials
    ]
    store(repository, replace(demo_study, trials=tuple(trials)))

    outcome = query(budget="1,2,10", storage=f"sqlite:///{tmp_path / 'autoprumux.db'}")

    full = answer_budgets(demo_study, [0.01, 0.02, 0.1])
    assert [a.best and a.best.candidate for a in outcome.answers] == [
        a.best and a.best.candidate for a in full
    ]
    assert [a.predicted for a in outcome.answers] == [a.predicted for a in full]
    for measurement in outcome.study.measured.values():
        assert measurement.environment == {"processor": "Imaginary 9000"}
