import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import FINISHED, BuiltinEvaluator, run

from autoprumux.evaluators.synthetic import SyntheticEvaluator


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, so that whatever is left behind is seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def evaluators(monkeypatch):
    """The evaluators that searches made; trainings are replaced by a closed form."""
    made: list[SyntheticEvaluator] = []

    def make(config, cache_dir, *_, **__):
        made.append(BuiltinEvaluator())
        return made[-1]

    monkeypatch.setitem(
        sys.modules, "autoprumux.evaluators.trained", SimpleNamespace(TrainedEvaluator=make)
    )
    return made


@pytest.fixture(scope="module")
def finished_database(tmp_path_factory) -> Path:
    """The database of a finished search of six trials for the budgets 1 and 3."""
    path = tmp_path_factory.mktemp("finished") / "study.db"
    with pytest.MonkeyPatch.context() as patch:
        fake = SimpleNamespace(TrainedEvaluator=lambda *_, **__: BuiltinEvaluator())
        patch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
        result = run([*FINISHED[:1], "--storage", f"sqlite:///{path}", *FINISHED[3:]])
    assert result.exit_code == 0, result.stderr
    return path


@pytest.fixture
def finished(folder, finished_database) -> Path:
    """A copy of it in the working directory."""
    return shutil.copy(finished_database, folder / "study.db")
