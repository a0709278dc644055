import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, event

from autoprumux.errors import NewerSchemaError, StorageError
from autoprumux.records import Candidate, Choice, Measurement, StudyRecord
from autoprumux.storage import database as database_module
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Function that limits every SQLite file opened from now on to some pages of 4 KiB."""
    listeners: list[Callable[..., None]] = []

    def limit(num_pages: int) -> None:
        def on_connect(connection: Any, _: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {num_pages}")

        event.listen(Engine, "connect", on_connect)
        listeners.append(on_connect)

    yield limit
    for listener in listeners:
        event.remove(Engine, "connect", listener)


def test_new_file_gets_a_write_ahead_log(database: Database) -> None:
    with database.read() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()

    assert mode == "wal"


def test_open_twice_changes_nothing(database: Database, storage_url: str, tmp_path: Path) -> None:
    database.close()
    file = tmp_path / "autoprumux.db"
    before = file.read_bytes()

    open_database(storage_url).close()

    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["autoprumux.db"]


@pytest.mark.parametrize(
    "url",
    [
        "autoprumux.db",
        "",
        "sqlite",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite+aiosqlite:///a.db",
        "mysql://user:hunter2@host/name",
        "nosuch+driver://user:hunter2@host/name",
        "postgresql://user:hunter2@host:port/name",
        "postgresql+nosuch://user:hunter2@host/name",
    ],
)
def test_wrong_url_is_refused_in_one_sentence(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StorageError, match="`--storage`") as caught:
        open_database(url)

    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_postgresql_without_a_driver_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(StorageError, match=r'run `pip install "psycopg\[binary\]"`') as caught:
        open_database("postgresql://user:hunter2@host/name?sslpassword=hunter2")

    assert "`postgresql+psycopg://user:***@host/name?sslpassword=" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent/a\.db` cannot be made: there is no folder"):
        open_database(f"sqlite:///{tmp_path}/absent/a.db")

    assert list(tmp_path.iterdir()) == []


def test_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder; `--storage` needs the path of a file"):
        open_database(f"sqlite:///{tmp_path}")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write")
def test_unwritable_folder_is_refused() -> None:
    with pytest.raises(StorageError, match=r"cannot be opened: the folder .* may not be written"):
        open_database("sqlite:////proc/self/autoprumux.db")


@pytest.mark.parametrize("content", [b"study,accuracy\nqnli,0.9\n" * 100, b"\x89PNG" * 2000])
def test_file_of_another_kind_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.db"
    file.write_bytes(content)

    with pytest.raises(StorageError, match=r"a\.db` is not an SQLite database"):
        open_database(f"sqlite:///{file}")

    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_damaged_database_is_refused(demo_database: Database, tmp_path: Path) -> None:
    demo_database.close()
    file = tmp_path / "autoprumux.db"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    with pytest.raises(StorageError, match=r"autoprumux\.db` is damaged"):
        open_database(f"sqlite:///{file}")


def test_absent_database_that_must_exist_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"There is no database at .*a\.db`. Run `autoprumux"):
        open_database(f"sqlite:///{tmp_path}/a.db", must_exist=True)

    assert list(tmp_path.iterdir()) == []


def test_database_without_our_tables_that_must_exist_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    content = file.read_bytes()

    with pytest.raises(StorageError, match="holds no studies of autoprumux"):
        open_database(f"sqlite:///{file}", must_exist=True)

    assert file.read_bytes() == content


def test_full_disk_leaves_no_new_file(tmp_path: Path, small_disk: Callable[[int], None]) -> None:
    small_disk(5)

    with pytest.raises(StorageError, match=r"There is no space left to write .*a\.db`"):
        open_database(f"sqlite:///{tmp_path}/a.db")

    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing_half_written(
    demo_database: Database,
    demo_study: StudyRecord,
    demo_measurement: Callable[..., Measurement],
    storage_url: str,
    small_disk: Callable[[int], None],
) -> None:
    candidate = Candidate(5, 0.8)
    Repository(demo_database).save_start(demo_study.name, 10, candidate, 0, Choice(reason=""))
    before = Repository(demo_database).load_study()
    demo_database.close()
    small_disk(1)  # SQLite takes the present size as the limit
    full = open_database(storage_url)
    measurement = demo_measurement(candidate, num_examples=100_000)

    with pytest.raises(StorageError, match="There is no space left to write"):
        Repository(full).save_measurement(demo_study.name, 10, measurement)

    assert Repository(full).load_study() == before
    full.close()


def test_lock_that_stays_is_told_in_one_sentence(
    database: Database,
    demo_study: StudyRecord,
    storage_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.01)
    impatient = open_database(storage_url)
    holder = sqlite3.connect(tmp_path / "autoprumux.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageError, match="is locked by another process"):
        Repository(impatient).save_study(demo_study)

    holder.close()
    Repository(impatient).save_study(demo_study)
    impatient.close()


def test_reading_goes_on_while_another_process_writes(
    demo_database: Database, demo_study: StudyRecord, storage_url: str, tmp_path: Path
) -> None:
    holder = sqlite3.connect(tmp_path / "autoprumux.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("UPDATE prumux_studies SET name = 'other'")

    reader = open_database(storage_url, must_exist=True)
    loaded = Repository(reader).load_study()

    assert loaded == demo_study
    reader.close()
    holder.close()


def test_path_with_odd_characters_works_for_us_and_for_optuna(
    tmp_path: Path, demo_study: StudyRecord
) -> None:
    folder = tmp_path / "a {b} %c d"
    folder.mkdir()
    opened = open_database(f"sqlite:///{folder}/ä.db")
    Repository(opened).save_study(demo_study)

    storage = opened.optuna_storage()

    assert storage.get_all_studies() == []
    assert (folder / "ä.db").is_file()
    storage.engine.dispose()
    opened.close()


def test_newer_database_is_refused_and_kept(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE prumux_schema_version SET version = 99")
    database.close()
    file = tmp_path / "autoprumux.db"
    content = file.read_bytes()

    with pytest.raises(NewerSchemaError, match=r"newer autoprumux \(schema 99, this one knows 6"):
        open_database(f"sqlite:///{file}")

    assert file.read_bytes() == content


def test_closing_leaves_no_file_open_not_even_for_optuna(tmp_path: Path) -> None:
    def open_files() -> list[str]:
        links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]
        return [link for link in links if "closed.db" in link]

    database = open_database(f"sqlite:///{tmp_path / 'closed.db'}")
    optuna.create_study(storage=database.optuna_storage())
    assert open_files()

    database.close()

    assert open_files() == []


def test_a_copy_of_the_closed_file_alone_holds_everything(
    tmp_path: Path, demo_study: StudyRecord
) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'study.db'}")
    storage = database.optuna_storage()  # keeps a connection open, and with it the log
    storage.get_all_studies()
    Repository(database).save_study(demo_study)
    database.close()

    copied = tmp_path / "copy.db"
    copied.write_bytes((tmp_path / "study.db").read_bytes())
    copy = open_database(f"sqlite:///{copied}", must_exist=True)

    assert Repository(copy).load_study().name == demo_study.name
    copy.close()
    storage.remove_session()
    storage.engine.dispose()
