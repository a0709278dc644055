import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from autoprumux.errors import StorageError
from autoprumux.storage.database import Database


def move_away(database: Database, tmp_path: Path) -> Path:
    """Close all connections and move the file."""
    database.engine.dispose()
    file = tmp_path / "autoprumux.db"
    return file.rename(tmp_path / "away.db")


def read(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM prumux_studies")).scalar_one())


def test_file_that_comes_back_is_waited_for(database: Database, tmp_path: Path) -> None:
    away = move_away(database, tmp_path)
    database.patience.seconds = 300.0

    def give_back() -> None:
        time.sleep(0.3)
        away.rename(tmp_path / "autoprumux.db")

    giver = threading.Thread(target=give_back)
    giver.start()
    found = read(database)
    giver.join()

    assert found == 0


@pytest.mark.parametrize("is_stopped", [True, False])
def test_file_that_stays_away_is_told_and_not_made_anew(
    database: Database, tmp_path: Path, is_stopped: bool
) -> None:
    move_away(database, tmp_path)
    database.patience.seconds = 300.0 if is_stopped else 0.1
    if is_stopped:
        database.patience.stop.set()

    with pytest.raises(StorageError, match="cannot be opened: the folder is missing"):
        read(database)

    assert not (tmp_path / "autoprumux.db").exists()
