"""Databases of every released schema on a PostgreSQL server: they migrate, or stay whole."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from golden import make_database
from typer.testing import CliRunner

from autoprumux.cli.main import app
from autoprumux.errors import NewerSchemaError, StorageError
from autoprumux.search.runner import run_study
from autoprumux.storage import migrations
from autoprumux.storage.database import open_database
from autoprumux.storage.migrations import MIGRATIONS, newest_version, stored_version
from autoprumux.storage.optuna_storage import ClosingStorage
from autoprumux.storage.repository import Repository
from autoprumux.storage.schema import METADATA
from autoprumux.storage.views import VIEWS

NEWEST = newest_version()
VERSIONS = list(range(1, NEWEST + 1))
OLDER = VERSIONS[:-1]


def seldom(values: Iterable[int], *often: int) -> list[Any]:
    """Yield parameters, those that are not tried often marked as slow."""
    return [v if v in often else pytest.param(v, marks=pytest.mark.slow) for v in values]


COMMANDS = {
    "query": (("query",), 0),
    "failures": (("query", "--failures"), 0),
    "profiles": (("query", "--device-profiles"), 0),
    "validate": (("validate",), None),
    "record": (("record", "--study", "qnli-golden", "--out", "recordings"), None),
    "report": (("report", "--out", "page.html"), 0),
    "export": (("export", "--out", "model"), None),
    "dashboard": (("dashboard", "--no-open", "--port", "-1"), None),
    "bench": (("bench", "qnli-golden"), None),
    "worker": (("worker",), None),
}
"""Those without an exit code go on to what the golden study lacks."""


def golden(version: int, folder: Path) -> sa.Engine:
    """Yield an engine of the golden SQLite file of a schema."""
    file = folder / f"golden-{version}.db"
    if not file.exists():
        script = (make_database.FOLDER / f"schema-{version}.sql").read_text(encoding="utf-8")
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.executescript(script)
    return sa.create_engine(f"sqlite:///{file}")


def first_tables(folder: Path) -> sa.MetaData:
    """Yield our tables as schema 1 had them, in types that every database knows."""
    engine, reflected = golden(1, folder), sa.MetaData()
    reflected.reflect(engine, only=lambda name, _: name.startswith("prumux_"))
    for table in reflected.tables.values():
        for column in table.columns:
            column.type = column.type.as_generic()
    engine.dispose()
    return reflected


def views_of(version: int) -> list[str]:
    """Yield how the schema's program made its views."""
    script = (make_database.FOLDER / f"schema-{version}.sql").read_text(encoding="utf-8")
    views = [part for part in script.split(";\n") if part.lstrip().startswith("CREATE VIEW")]
    assert len(views) >= 5
    return views


def copy_rows(source: sa.Connection, target: sa.Connection) -> None:
    """Copy the rows of all tables, parents first, and let counters go on after them."""
    tables = sa.MetaData()
    tables.reflect(target)
    for table in tables.sorted_tables:
        names = ", ".join(column.name for column in table.columns)
        rows = source.exec_driver_sql(f"SELECT {names} FROM {table.name}").mappings().all()
        target.execute(table.delete())
        if rows:
            target.execute(table.insert(), [_typed(table, row) for row in rows])
        for column in table.columns:
            if column.autoincrement is True or "nextval" in str(column.server_default or ""):
                counter = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
                highest = f"(SELECT MAX({column.name}) FROM {table.name})"
                target.exec_driver_sql(f"SELECT setval({counter}, COALESCE({highest}, 1))")


def _typed(table: sa.Table, row: Any) -> dict[str, Any]:
    values = dict(row)
    for column in table.columns:
        if values[column.name] is not None and isinstance(column.type, sa.Boolean):
            values[column.name] = bool(values[column.name])
    return values


@pytest.fixture
def make(postgresql_server: sa.URL, tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Factory: the URL of a server's database with the rows of the golden one of a schema."""
    from postgresql_server import new_database

    with contextlib.ExitStack() as stack:

        def build(version: int) -> str:
            url = stack.enter_context(new_database(postgresql_server, f"golden{version}"))
            engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
            ClosingStorage(engine.url.render_as_string(hide_password=False)).close()
            source = golden(version, tmp_path)
            with engine.begin() as target, source.connect() as rows:
                first_tables(tmp_path).create_all(target)
                operations = Operations(MigrationContext.configure(target))
                for step in range(2, version + 1):
                    MIGRATIONS[step](operations)
                copy_rows(rows, target)
                for statement in views_of(version):
                    target.exec_driver_sql(statement.replace("%", "%%"))
            engine.dispose()
            source.dispose()
            return url

        yield build


def shape(url: str) -> dict[str, Any]:
    """Yield columns, keys and foreign keys of our tables, and the views."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    inspector = sa.inspect(engine)
    tables = {
        name: (
            {c["name"]: (str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)},
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted(tuple(u["column_names"]) for u in inspector.get_unique_constraints(name)),
            sorted(
                (key["constrained_columns"], key["referred_table"], key["referred_columns"])
                for key in inspector.get_foreign_keys(name)
            ),
        )
        for name in METADATA.tables
    } | {"views": sorted(inspector.get_view_names())}
    engine.dispose()
    return tables


def version_of(url: str) -> int | None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        version = stored_version(connection)
    engine.dispose()
    return version


@pytest.mark.parametrize("version", VERSIONS)
def test_migrated_tables_and_rows_are_those_of_the_newest_schema(
    make: Callable[[int], str], postgresql_url: str, tmp_path: Path, version: int
) -> None:
    url = make(version)
    newest = open_database(f"sqlite:///{golden(NEWEST, tmp_path).url.database}")
    open_database(postgresql_url).close()

    database = open_database(url)

    assert shape(url) == shape(postgresql_url)
    assert version_of(url) == NEWEST
    trials = Repository(database).load_study("qnli-golden").trials
    assert trials == Repository(newest).load_study("qnli-golden").trials
    with database.read() as connection:
        for view in VIEWS:
            connection.exec_driver_sql(f"SELECT * FROM {view}").all()
    database.close()
    newest.close()


@pytest.mark.parametrize("version", seldom(OLDER, 1))
def test_migration_is_told_with_what_protects_a_server(
    make: Callable[[int], str], caplog: pytest.LogCaptureFixture, version: int
) -> None:
    url = make(version)

    open_database(url).close()
    open_database(url).close()

    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"from schema {version} to {NEWEST}" in told
    assert "pg_dump" in told
    assert "not-a-secret" not in told


@pytest.mark.parametrize("version", seldom(VERSIONS, 1))
def test_search_goes_on_where_the_older_program_stopped(
    make: Callable[[int], str], version: int
) -> None:
    database = open_database(make(version))
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
    states = [trial.state for trial in trials]
    assert states == ["complete", "complete", "failed", *["complete"] * 3]
    database.close()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("version", OLDER)
def test_every_command_opens_an_older_schema(
    make: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    url = make(version)
    words, code = COMMANDS[command]

    ended = CliRunner().invoke(app, [*words, "--storage", url], env={"NO_COLOR": "1"})

    assert version_of(url) == NEWEST
    assert code in (None, ended.exit_code)
    assert isinstance(ended.exception, SystemExit | None)
    assert "not-a-secret" not in ended.output


@pytest.mark.parametrize("version", seldom(OLDER, NEWEST - 1))
def test_older_program_refuses_in_a_sentence(
    make: Callable[[int], str], monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    url = make(NEWEST)
    known = {step: MIGRATIONS[step] for step in range(2, version + 1)}
    monkeypatch.setattr(migrations, "MIGRATIONS", known)

    with pytest.raises(
        NewerSchemaError, match=rf"newer autoprumux \(schema {NEWEST}, .* knows {version}\)"
    ):
        open_database(url)

    assert version_of(url) == NEWEST


@pytest.mark.parametrize("step", seldom(range(2, NEWEST + 1), 2, NEWEST))
def test_migration_that_fails_in_its_middle_leaves_the_old_version_whole(
    make: Callable[[int], str], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    url = make(1)

    def fail(operations: Operations) -> None:
        MIGRATIONS[step](operations)
        operations.execute("SELECT * FROM prumux_nowhere")

    before = contents(url)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", {**MIGRATIONS, step: fail})
        with pytest.raises(StorageError, match="prumux_nowhere"):
            open_database(url)

    assert contents(url) == before
    open_database(url).close()
    assert version_of(url) == NEWEST


def contents(url: str) -> dict[str, Any]:
    """Yield the rows of all tables and views that are there."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    inspector = sa.inspect(engine)
    with engine.connect() as connection:
        found = {
            name: sorted(map(str, connection.exec_driver_sql(f"SELECT * FROM {name}")))
            for name in inspector.get_table_names() + inspector.get_view_names()
        }
    engine.dispose()
    return found


OPEN = """
import sys
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository
database = open_database(sys.argv[1])
print(len(Repository(database).load_study("qnli-golden").trials))
database.close()
"""


def test_of_processes_that_migrate_at_once_one_waits_for_the_other(
    make: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make(1)
    others: list[subprocess.Popen[str]] = []

    def slow(operations: Operations) -> None:
        for _ in range(2):
            command = [sys.executable, "-W", "error", "-c", OPEN, url]
            others.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=dict(os.environ),
                )
            )
        wait_for_blocked(url, 2)
        MIGRATIONS[3](operations)

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", {**MIGRATIONS, 3: slow})
        open_database(url).close()

    for other in others:
        told, errors = other.communicate(timeout=120)
        assert (other.returncode, told.strip()) == (0, "4"), errors
        assert "pg_dump" not in errors
    assert len(others) == 2
    assert version_of(url) == NEWEST


def wait_for_blocked(url: str, number: int) -> None:
    """Wait until so many connections wait for the lock of our writers."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    deadline = time.monotonic() + 120
    pause = threading.Event()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.exec_driver_sql(query).scalar_one() < number:
            assert time.monotonic() < deadline
            pause.wait(0.05)
    engine.dispose()
