import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.operations import Operations

from autoprumux.errors import StorageError
from autoprumux.records import StudyRecord
from autoprumux.storage import migrations
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.storage.schema import METADATA

FIRST_SCHEMA = Path(__file__).parents[2] / "golden" / "schema-1.sql"
"""The demo study as the program of schema 1 stored it."""


def _add_column(operations: Operations) -> None:
    with operations.batch_alter_table("prumux_claims") as table:
        table.add_column(sa.Column("note", sa.Text, nullable=False, server_default="none"))


def _add_table(operations: Operations) -> None:
    operations.create_table("prumux_later", sa.Column("x", sa.Integer))


def _fail(operations: Operations) -> None:
    operations.create_table("prumux_half", sa.Column("x", sa.Integer))
    operations.execute("SELECT * FROM prumux_nowhere")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[int, migrations.Migration]:
    """Migrations of a later program, to be filled by the test."""
    later: dict[int, migrations.Migration] = {}
    typed: Mapping[int, migrations.Migration] = later
    monkeypatch.setattr(migrations, "MIGRATIONS", typed)
    return later


def test_new_database_has_every_table_and_the_newest_version(database: Database) -> None:
    with database.read() as connection:
        names = set(sa.inspect(connection).get_table_names())
        version = migrations.stored_version(connection)

    assert names == set(METADATA.tables)
    assert all(name.startswith("prumux_") for name in names)
    assert version == migrations.newest_version() == 3


def test_older_database_takes_every_step_in_order(
    demo_database: Database,
    demo_study: StudyRecord,
    storage_url: str,
    steps: dict[int, migrations.Migration],
) -> None:
    demo_database.close()
    steps |= {5: _add_table, 4: _add_column}

    opened = open_database(storage_url)

    with opened.read() as connection:
        assert migrations.stored_version(connection) == 5
        assert connection.execute(sa.text("SELECT note FROM prumux_claims")).scalar() == "none"
        assert connection.execute(sa.text("SELECT count(*) FROM prumux_later")).scalar() == 0
    assert Repository(opened).load_study() == demo_study
    opened.close()


def described(database: Database) -> dict[str, object]:
    """Yield columns, keys and foreign keys of every table, and the views."""
    with database.read() as connection:
        found = sa.inspect(connection)
        return {
            name: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
                found.get_pk_constraint(name)["constrained_columns"],
                sorted(
                    (key["constrained_columns"], key["referred_table"], key["referred_columns"])
                    for key in found.get_foreign_keys(name)
                ),
            )
            for name in sorted(METADATA.tables)
        } | {"views": sorted(found.get_view_names())}


def test_database_of_the_first_schema_is_brought_up_to_date(
    tmp_path: Path, database: Database, demo_study: StudyRecord
) -> None:
    file = tmp_path / "first.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(FIRST_SCHEMA.read_text(encoding="utf-8"))
    connection.close()

    opened = open_database(f"sqlite:///{file}")

    assert described(opened) == described(database)
    assert Repository(opened).load_study() == demo_study
    opened.close()


def test_step_that_fails_leaves_the_database_as_it_was(
    demo_database: Database,
    demo_study: StudyRecord,
    storage_url: str,
    tmp_path: Path,
    steps: dict[int, migrations.Migration],
) -> None:
    demo_database.close()
    content = (tmp_path / "autoprumux.db").read_bytes()
    steps |= {3: _add_column, 4: _fail}

    with pytest.raises(StorageError, match="no such table: prumux_nowhere"):
        open_database(storage_url)

    assert (tmp_path / "autoprumux.db").read_bytes() == content
