import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from autoprumux.errors import NewerSchemaError, StorageError
from autoprumux.records import StudyRecord
from autoprumux.storage import access
from autoprumux.storage.access import QUICK_VERSION, stored_rows
from autoprumux.storage.database import Database
from autoprumux.storage.migrations import newest_version
from autoprumux.storage.reading import read_study
from autoprumux.storage.repository import Repository


@pytest.fixture
def no_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("SQLAlchemy opened the database")

    monkeypatch.setattr(access, "_usual_rows", refuse)


def test_the_version_that_is_read_directly_is_the_newest() -> None:
    assert newest_version() == QUICK_VERSION


@pytest.mark.usefixtures("demo_database", "no_usual_way")
def test_a_study_read_directly_equals_the_one_that_was_stored(
    storage_url: str, demo_study: StudyRecord
) -> None:
    with stored_rows(storage_url) as (rows, place):
        assert read_study(rows, place, None, None) == demo_study
        assert place.endswith("autoprumux.db`")


@pytest.mark.usefixtures("no_usual_way")
@pytest.mark.parametrize("is_clean", [True, False, None])
def test_a_mark_of_a_busy_machine_is_read_directly(
    repository: Repository,
    store: Callable[[Repository, StudyRecord], None],
    storage_url: str,
    demo_study: StudyRecord,
    is_clean: bool | None,
) -> None:
    baseline = demo_study.trials[0]
    assert baseline.measurement is not None
    speed = replace(baseline.measurement.throughput, baseline_spread=0.21, is_clean=is_clean)
    trial = replace(baseline, measurement=replace(baseline.measurement, throughput=speed))
    store(repository, replace(demo_study, trials=(trial,)))

    with stored_rows(storage_url) as (rows, place):
        (found,) = read_study(rows, place, None, None).trials

    assert found == trial
    assert found.measurement is not None
    assert found.measurement.throughput.is_clean is is_clean


@pytest.mark.usefixtures("no_usual_way")
def test_rows_that_are_still_in_the_log_are_read(
    demo_database: Database, storage_url: str, tmp_path: Path
) -> None:
    with demo_database.write() as connection:
        connection.execute(sa.text("UPDATE prumux_studies SET task = 'sst2'"))
    assert (tmp_path / "autoprumux.db-wal").stat().st_size > 0

    with stored_rows(storage_url) as (rows, place):
        assert read_study(rows, place, None, None).task == "sst2"


@pytest.mark.usefixtures("demo_database")
@pytest.mark.parametrize(
    "change",
    ["DROP VIEW prumux_front", "UPDATE prumux_schema_version SET views_hash = 'old'"],
)
def test_views_that_are_not_this_programs_are_made_anew(
    storage_url: str, tmp_path: Path, demo_study: StudyRecord, change: str
) -> None:
    with sqlite3.connect(tmp_path / "autoprumux.db") as connection:
        connection.execute(change)
    connection.close()

    with stored_rows(storage_url) as (rows, place):
        assert read_study(rows, place, None, None) == demo_study

    with sqlite3.connect(tmp_path / "autoprumux.db") as connection:
        assert len(connection.execute("SELECT * FROM prumux_front").fetchall()) > 0
    connection.close()


@pytest.mark.usefixtures("demo_database")
def test_a_newer_database_is_refused(storage_url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "autoprumux.db") as connection:
        connection.execute("UPDATE prumux_schema_version SET version = 99")
    connection.close()

    with pytest.raises(NewerSchemaError), stored_rows(storage_url):
        pass


def test_a_database_that_is_not_there_is_not_made(storage_url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="There is no database"), stored_rows(storage_url):
        pass

    assert list(tmp_path.iterdir()) == []


def test_reading_a_study_loads_no_sqlalchemy(
    demo_database: Database, repository: Repository, storage_url: str
) -> None:
    code = (
        "import sys\n"
        "from autoprumux.storage.access import stored_rows\n"
        "from autoprumux.storage.reading import read_study\n"
        f"with stored_rows({storage_url!r}) as (rows, place):\n"
        "    study = read_study(rows, place, None, None)\n"
        "print(len(study.trials), {'sqlalchemy', 'numpy', 'optuna'} & set(sys.modules))\n"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert found.stdout.strip() == f"{len(repository.load_study().trials)} set()", found.stderr
