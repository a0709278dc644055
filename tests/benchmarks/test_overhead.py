"""The benchmark of what everything but training costs, on a handful of trials."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def overhead(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("overhead", BENCHMARKS / "overhead.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_measures_and_writes_its_rows(
    overhead: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "overhead.json"
    options = ["--trials", "12", "--repeats", "1", "--measures", "proposal", "query"]
    monkeypatch.setattr(sys, "argv", ["overhead.py", *options, "--out", str(out)])

    overhead.main()

    proposal, query = json.loads(out.read_text())["rows"]
    assert proposal["proposal_cpu_ms"] > 0
    assert query["first_query_ms"] > 0
    assert min(proposal["peak_mib"], query["peak_mib"]) > 10


@pytest.mark.parametrize(("kind", "num_candidates"), [("wide", 40), ("repeated", 30)])
def test_its_studies_are_those_of_a_search(
    overhead: ModuleType, tmp_path: Path, kind: str, num_candidates: int
) -> None:
    from large_studies import LargeStudy, build

    build(LargeStudy(kind, 40), tmp_path / "study.db")

    database = open_database(f"sqlite:///{tmp_path}/study.db", must_exist=True)
    study = Repository(database).load_study()
    storage = database.optuna_storage()
    optunas = storage.get_all_trials(1)
    storage.close()
    database.close()
    assert [trial.number for trial in study.trials] == list(range(40))
    assert len(study.measured) == num_candidates
    assert [trial.values[0] for trial in optunas] == [
        trial.measurement.accuracy for trial in study.trials if trial.measurement
    ]
