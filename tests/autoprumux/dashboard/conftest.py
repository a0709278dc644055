"""Databases as a search leaves them, made with the synthetic evaluator."""

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner

from autoprumux.cli.main import app
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.records import Candidate

HOSTILE = "a <b>bold</b> <script>alert(1)</script> | `x` [y](javascript:z) www.evil.com"
SMALL = ["--widths", "1,2", "--sparsities", "0,0.6,0.9", "--set", "search.stop_chance=0"]


class BuiltinEvaluator(SyntheticEvaluator):
    """Claims built-in data, never trains, and fails once."""

    @property
    def data_fingerprint(self) -> str:
        return "builtin:qnli:0123"


@dataclass(frozen=True)
class Made:
    """A database in a folder of its own."""

    file: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    @property
    def folder(self) -> Path:
        """Of the artifacts."""
        return self.file.with_name(f"{self.file.name}-artifacts")

    def study(self, name: str = "qnli-embedded") -> optuna.Study:
        return optuna.load_study(study_name=name, storage=self.url)

    @property
    def storage(self) -> optuna.storages.BaseStorage:
        return optuna.storages.get_storage(self.url)

    def attributes(self) -> dict[str, Any]:
        """Optuna's system attributes of all studies."""
        connection = sqlite3.connect(self.file)
        rows = connection.execute("SELECT key, value_json FROM study_system_attributes").fetchall()
        connection.close()
        return {key: json.loads(value) for key, value in rows}


def search(file: Path, *arguments: str) -> Any:
    """Run `autoprumux search`; trainings are replaced by a closed form, and one fails."""
    made = BuiltinEvaluator(failing=frozenset({Candidate(2, 0.9)}))
    with pytest.MonkeyPatch.context() as patch:
        fake = SimpleNamespace(TrainedEvaluator=lambda *_, **__: made)
        patch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
        command = ["search", "--storage", f"sqlite:///{file}", *arguments]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="session")
def run_search() -> Callable[..., Any]:
    """Factory: `run_search(file, "--budget", "2")`."""
    return search


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A whole small grid for the budgets 1 and 3, and a study with a hostile name; leave it be."""
    file = tmp_path_factory.mktemp("searched") / "study.db"
    search(file, *SMALL, "--budget", "1,3")
    search(file, *SMALL, "--budget", "1", "--max-trials", "1", "--study", HOSTILE)
    return Made(file)


@pytest.fixture
def made(searched: Made, tmp_path: Path) -> Made:
    """A copy of it that may be changed."""
    shutil.copy(searched.file, tmp_path / "study.db")
    shutil.copytree(searched.folder, tmp_path / searched.folder.name)
    return Made(tmp_path / "study.db")
