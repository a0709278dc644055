"""Databases of every released schema: they open, migrate with a copy kept, and are searched on."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from golden import make_database

from autoprumux.search.runner import run_study
from autoprumux.storage.database import open_database
from autoprumux.storage.migrations import newest_version, stored_version
from autoprumux.storage.repository import Repository
from autoprumux.storage.schema import METADATA

GOLDEN = {int(file.stem.partition("-")[2]): file for file in make_database.FOLDER.glob("*.sql")}
VERSIONS = sorted(GOLDEN)


@pytest.fixture
def restore(tmp_path: Path) -> Any:
    """Factory: the file of a golden database."""

    def make(version: int, name: str = "autoprumux.db") -> Path:
        file = tmp_path / name
        connection = sqlite3.connect(file)
        connection.executescript(GOLDEN[version].read_text(encoding="utf-8"))
        connection.close()
        return file

    return make


def shape(file: Path) -> dict[str, Any]:
    """Yield columns in order, keys and foreign keys of our tables, and the views."""
    engine = sa.create_engine(f"sqlite:///{file}")
    inspector = sa.inspect(engine)
    tables = {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)],
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted(
                (key["constrained_columns"], key["referred_table"], key["referred_columns"])
                for key in inspector.get_foreign_keys(name)
            ),
        )
        for name in METADATA.tables
    } | {"views": sorted(inspector.get_view_names())}
    engine.dispose()
    return tables


def test_there_is_a_database_of_every_schema() -> None:
    assert list(range(1, newest_version() + 1)) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_migrated_tables_are_those_of_a_new_database(
    restore: Any, tmp_path: Path, version: int
) -> None:
    file = restore(version)
    new = tmp_path / "new.db"

    for path in (file, new):
        open_database(f"sqlite:///{path}").close()

    assert shape(file) == shape(new)


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_study_is_what_it_was(restore: Any, version: int) -> None:
    database = open_database(f"sqlite:///{restore(version)}")

    study = Repository(database).load_study("qnli-golden")

    with database.read() as connection:
        assert stored_version(connection) == newest_version()
    assert [trial.state for trial in study.trials] == ["complete", "complete", "failed", "running"]
    assert study.baseline is not None
    assert study.baseline.accuracy == 58 / 64
    assert study.trials[2].failure is not None
    assert study.trials[2].failure.cause == "sparsity_not_reached"
    database.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_trials_are_read_as_the_newest_program_would_have_stored_them(
    restore: Any, version: int
) -> None:
    trials = []
    for number, name in ((version, "older.db"), (newest_version(), "newest.db")):
        database = open_database(f"sqlite:///{restore(number, name)}")
        trials.append(Repository(database).load_study("qnli-golden").trials)
        database.close()

    assert trials[0] == trials[1]


@pytest.mark.parametrize("version", [3, 4, 5])
def test_choices_from_before_their_factors_were_stored_keep_what_they_have(
    restore: Any, version: int
) -> None:
    file, numbers = restore(version), "0.8, 4.0, 1.5, 2.0, 0.3"
    with sqlite3.connect(file) as connection:
        columns = "chance, expected_speedup, expected_gain, predicted_minutes, score"
        connection.execute(f"UPDATE prumux_starts SET ({columns}) = ({numbers}) WHERE number = 1")
        connection.execute(
            f"INSERT INTO prumux_runners_up (study_id, number, position, num_instances, sparsity,"
            f" {columns}) VALUES (1, 1, 1, 2, 0.6, {numbers})"
        )
    connection.close()

    database = open_database(f"sqlite:///{file}")

    choice = Repository(database).load_study("qnli-golden").trials[1].choice
    database.close()
    assert choice is not None
    (other,) = choice.runners_up
    assert (choice.score, other.score) == (0.3, 0.3)
    assert (choice.chance_best, choice.log_gain) == (None, None)
    assert (other.chance_best, other.log_gain) == (None, None)


@pytest.mark.parametrize("version", VERSIONS)
def test_older_file_is_kept_as_it_was(restore: Any, version: int) -> None:
    file = restore(version)

    open_database(f"sqlite:///{file}").close()

    copy = file.with_name(f"autoprumux.db.schema-{version}")
    assert copy.exists() == (version < newest_version())
    if copy.exists():
        with sqlite3.connect(copy) as connection:
            rows = connection.execute("SELECT version FROM prumux_schema_version").fetchall()
        connection.close()
        assert rows == [(version,)]


@pytest.mark.parametrize("version", VERSIONS)
def test_search_goes_on_where_the_older_program_stopped(restore: Any, version: int) -> None:
    database = open_database(f"sqlite:///{restore(version)}")
    before = Repository(database).load_study("qnli-golden").trials

    outcome = run_study(
        make_database.CONFIG,
        database,
        make_database.make_evaluator(),
        make_database.SilentListener(),
    )

    trials = outcome.study.trials
    assert trials[:3] == before[:3]
    assert (trials[3].number, trials[3].candidate) == (3, make_database.STOPPED_AT)
    assert [trial.state for trial in trials] == [
        "complete",
        "complete",
        "failed",
        *["complete"] * 3,
    ]
    database.close()


@pytest.mark.slow
def test_script_makes_the_newest_database(tmp_path: Path) -> None:
    file = tmp_path / "study.db"

    make_database.make_database(file)

    made = "\n".join(make_database.dump(file)) + "\n"
    assert made == GOLDEN[newest_version()].read_text(encoding="utf-8")
