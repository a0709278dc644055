from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from autoprumux.exporting.choice import Choice, choose_by_number
from autoprumux.records import StudyRecord
from trainers.results import ExportResult, OnnxResult


@pytest.fixture
def study(demo_study, tmp_path, monkeypatch) -> StudyRecord:
    """The demo study, with a file in the place of every checkpoint, in the cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def with_checkpoint(trial):
        if trial.measurement is None:
            return trial
        checkpoint = user_cache_path("autoprumux") / f"trial-{trial.number}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "config.json").write_text("{}", encoding="utf-8")
        return replace(trial, measurement=replace(trial.measurement, checkpoint=str(checkpoint)))

    return replace(demo_study, trials=tuple(with_checkpoint(t) for t in demo_study.trials))


@pytest.fixture
def choice(study) -> Choice:
    """Trial 4, (2, 0.6)."""
    return choose_by_number(study, 4)


@pytest.fixture
def make_result() -> Callable[..., ExportResult]:
    """What a check of an export tells."""

    def make(*, with_onnx: bool = False, **changes) -> ExportResult:
        graph = OnnxResult(
            opset=20,
            largest_difference=3.2e-7,
            torch_throughput=1000.0,
            throughput=1500.0,
            ratio=1.5,
            ratio_q1=1.4,
            ratio_q3=1.6,
            num_repeats=20,
            batch_size=64,
            length=32,
            num_threads=2,
        )
        result = ExportResult(
            labels=("entailment", "not_entailment"),
            text_columns=("question", "sentence"),
            num_sequences=256,
            is_validation=True,
            why_made_up="",
            environment={"processor": "a processor"},
            onnx=graph if with_onnx else None,
        )
        return replace(result, **changes)

    return make


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"
