"""What a search leaves that no fault may change, and what it must not leave."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fault_process import NAME, Scene
from sqlalchemy import text

from autoprumux.answers import answer_budgets
from autoprumux.records import Candidate
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository


@dataclass(frozen=True)
class Account:
    """What a search left that no fault may change; times and speeds of real trainings vary."""

    trials: tuple[tuple[int, Candidate, str, float | None, bytes | None], ...]
    best: tuple[Candidate | None, ...]
    claims: tuple[tuple[int, float], ...]
    optuna: tuple[tuple[int, str], ...]


def account(scene: Scene) -> Account:
    """Read what a search left."""
    database = open_database(scene.storage, must_exist=True)
    study = Repository(database).load_study(NAME)
    with database.read() as connection:
        claims = connection.execute(text("SELECT num_instances, sparsity FROM prumux_claims"))
        claimed = tuple(sorted(tuple(row) for row in claims))
        states = connection.execute(
            text("SELECT number, CAST(state AS VARCHAR(20)) FROM trials ORDER BY number")
        )
        theirs = tuple((number, state) for number, state in states)
        open_tries = connection.execute(
            text("SELECT number FROM prumux_tries WHERE outcome IS NULL")
        ).all()
    database.close()
    assert open_tries == []
    trials = tuple(
        (t.number, t.candidate, t.state)
        + ((t.measurement.accuracy, t.measurement.correctness) if t.measurement else (None, None))
        for t in study.trials
    )
    best = () if scene.is_real else answer_budgets(study, study.budgets)  # their speeds vary
    return Account(
        trials=trials,
        best=tuple(answer.best.candidate if answer.best else None for answer in best),
        claims=claimed,
        optuna=theirs,
    )


def leftovers(folder: Path) -> list[str]:
    """Yield the names of unfinished and temporary files below a folder."""
    marks = (".partial", ".lock", "progress.safetensors")
    found = [p for p in folder.rglob("*") if p.name.endswith(marks) or p.name.startswith(".")]
    found += (folder / "temporary").glob("*")
    allowed = "autoprumux-throughput.lock"  # stays, because others may wait at it
    return sorted({str(p.relative_to(folder)) for p in found if p.name != allowed})


@dataclass(frozen=True)
class Undisturbed:
    """A search that met no fault."""

    account: Account
    writes: list[str]


@contextmanager
def filled(disk: Path, *, but_kib: int) -> Iterator[None]:
    """Fill a disk during the block, but for so many KiB."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(max(0, file.tell() - 1024 * but_kib))
    try:
        yield
    finally:
        ballast.unlink()


def num_told(scene: Scene) -> int:
    """Count the trials whose outcome is stored, in a file that a search writes at the time."""
    file = scene.folder / "study.db"
    if not file.exists():
        return 0
    with sqlite3.connect(file, timeout=60) as connection:
        try:
            query = "SELECT count(*) FROM prumux_attempts WHERE outcome = 'told'"
            return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return 0
        finally:
            connection.rollback()
