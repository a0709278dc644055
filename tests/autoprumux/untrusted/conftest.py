"""Commands as a user runs them, on what a stranger may send."""

import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from golden import make_database
from typer.testing import CliRunner

from autoprumux.cli.main import app
from autoprumux.evaluators.synthetic import SyntheticEvaluator

GOLDEN = {int(file.stem.partition("-")[2]): file for file in make_database.FOLDER.glob("*.sql")}
NEWEST = max(GOLDEN)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The sentence of a refusal."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")


@pytest.fixture
def run() -> Callable[..., Ended]:
    """Run a command in this process; trainings are replaced by a closed form."""

    def run_command(*arguments: object) -> Ended:
        with pytest.MonkeyPatch.context() as patch:
            fake = SimpleNamespace(TrainedEvaluator=lambda *_, **__: SyntheticEvaluator())
            patch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
            result = CliRunner().invoke(app, [str(word) for word in arguments])
        is_ended = result.exception is None or isinstance(result.exception, SystemExit)
        if not is_ended:
            raise result.exception
        assert "--verbose" in arguments or "Traceback" not in result.stderr
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run_command


@pytest.fixture
def restore(tmp_path: Path) -> Callable[..., Path]:
    """Factory: the file of a golden database, by default of the newest schema."""

    def make(version: int = NEWEST) -> Path:
        file = tmp_path / "study.db"
        connection = sqlite3.connect(file)
        connection.executescript(GOLDEN[version].read_text(encoding="utf-8"))
        connection.close()
        return file

    return make


@pytest.fixture
def change() -> Callable[..., None]:
    """Run SQL on a file, as a stranger would."""

    def run_sql(file: Path, *statements: str) -> None:
        connection = sqlite3.connect(file)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return run_sql
