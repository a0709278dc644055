from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.operations import Operations

from autoprumux.errors import NewerSchemaError, StorageError
from autoprumux.records import StudyRecord
from autoprumux.storage import migrations
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.storage.schema import METADATA

NEWEST = migrations.newest_version()


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
    later: dict[int, migrations.Migration] = {NEWEST: lambda _: None}
    typed: Mapping[int, migrations.Migration] = later
    monkeypatch.setattr(migrations, "MIGRATIONS", typed)
    return later


def test_new_database_has_every_table_and_the_newest_version(database: Database) -> None:
    with database.read() as connection:
        names = set(sa.inspect(connection).get_table_names())
        version = migrations.stored_version(connection)

    assert names == set(METADATA.tables)
    assert all(name.startswith("prumux_") for name in names)
    assert version == migrations.newest_version() == NEWEST


def test_older_database_takes_every_step_in_order(
    demo_database: Database,
    demo_study: StudyRecord,
    storage_url: str,
    steps: dict[int, migrations.Migration],
) -> None:
    demo_database.close()
    steps |= {NEWEST + 2: _add_table, NEWEST + 1: _add_column}

    opened = open_database(storage_url)

    with opened.read() as connection:
        assert migrations.stored_version(connection) == NEWEST + 2
        assert connection.execute(sa.text("SELECT note FROM prumux_claims")).scalar() == "none"
        assert connection.execute(sa.text("SELECT count(*) FROM prumux_later")).scalar() == 0
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
    steps |= {NEWEST + 1: _add_column, NEWEST + 2: _fail}

    with pytest.raises(StorageError, match="no such table: prumux_nowhere"):
        open_database(storage_url)

    assert (tmp_path / "autoprumux.db").read_bytes() == content
    assert not list(tmp_path.glob("*.schema-*"))


def test_file_is_copied_before_it_is_taken_further(
    demo_database: Database,
    demo_study: StudyRecord,
    storage_url: str,
    tmp_path: Path,
    steps: dict[int, migrations.Migration],
    caplog: pytest.LogCaptureFixture,
) -> None:
    demo_database.close()
    steps |= {NEWEST + 1: _add_column}

    open_database(storage_url).close()
    open_database(storage_url).close()
    del steps[NEWEST + 1]
    copies = list(tmp_path.glob("*.schema-*"))

    assert [copy.name for copy in copies] == [f"autoprumux.db.schema-{NEWEST}"]
    assert str(copies[0]) in caplog.text
    copy = open_database(f"sqlite:///{copies[0]}")
    assert Repository(copy).load_study() == demo_study
    copy.close()


def test_copy_of_another_file_is_not_overwritten(
    demo_database: Database,
    storage_url: str,
    tmp_path: Path,
    steps: dict[int, migrations.Migration],
) -> None:
    demo_database.close()
    other = tmp_path / f"autoprumux.db.schema-{NEWEST}"
    other.write_text("somebody's")
    steps |= {NEWEST + 1: _add_column}

    open_database(storage_url).close()

    assert other.read_text() == "somebody's"
    assert (tmp_path / f"autoprumux.db.schema-{NEWEST}-2").is_file()


def test_file_that_cannot_be_copied_is_left_as_it_was(
    demo_database: Database,
    storage_url: str,
    tmp_path: Path,
    steps: dict[int, migrations.Migration],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demo_database.close()
    content = (tmp_path / "autoprumux.db").read_bytes()
    steps |= {NEWEST + 1: _add_column}
    monkeypatch.setattr(
        "autoprumux.storage.backups._free_name", lambda _: tmp_path / "nowhere" / "copy"
    )

    with pytest.raises(StorageError, match=r"no copy of it can be kept at .*nowhere"):
        open_database(storage_url)

    assert (tmp_path / "autoprumux.db").read_bytes() == content


def test_older_program_refuses_in_a_sentence_and_changes_nothing(
    demo_database: Database, storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo_database.close()
    content = (tmp_path / "autoprumux.db").read_bytes()
    monkeypatch.setattr(migrations, "MIGRATIONS", {})

    with pytest.raises(
        NewerSchemaError, match=rf"newer autoprumux \(schema {NEWEST}, .* knows 1\)"
    ):
        open_database(storage_url)

    assert (tmp_path / "autoprumux.db").read_bytes() == content
