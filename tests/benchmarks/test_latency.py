"""The benchmark of the law of latency, with timings that follow the law and with real ones."""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from autoprumux.evaluators.timed import ModelTimer, model_timer
from autoprumux.records import EncoderShape, ShapeTiming
from autoprumux.study_files import load_study
from autoprumux.surrogates.structure_latency import TYPICAL, StructureLatency

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAME = "qnli-builtin-builtin"


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("latency")


def test_timings_that_follow_the_law_are_predicted_and_others_are_not(
    latency: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = latency.recorded_shapes([NAME])[-1]  # of which nothing could have told

    def shares_of(shapes: Sequence[EncoderShape]) -> list[float]:
        with model_timer(load_study("embedded").trainer) as timer:
            law = StructureLatency(timer.encoder([10]), 32, TYPICAL, 0.0)
        shares = law.shares(shapes) * [2.0 if shape == odd else 1.0 for shape in shapes]
        return [float(share) for share in shares]

    def time_shapes(
        timer: ModelTimer, shapes: Sequence[EncoderShape], limit_s: float
    ) -> tuple[list[ShapeTiming], int]:
        return [
            ShapeTiming(shape=s, seconds=t, seconds_q1=t, seconds_q3=t, share=t)
            for s, t in zip(shapes, shares_of(shapes), strict=True)
        ], 7

    def time_in_turn(
        baseline: EncoderShape, shapes: Sequence[EncoderShape], **_: object
    ) -> np.ndarray:
        assert baseline.num_instances == 1
        return np.outer(shares_of(shapes), [1.0, 1.1, 0.9])

    monkeypatch.setattr(ModelTimer, "time_shapes", time_shapes)
    monkeypatch.setattr(ModelTimer, "passes", lambda timer, shapes: list(shapes))
    monkeypatch.setattr(latency, "time_in_turn", time_in_turn)
    out = tmp_path / "latency.json"
    monkeypatch.setattr(sys, "argv", ["latency.py", "--recordings", NAME, "--out", str(out)])

    latency.main()

    found = json.loads(out.read_text())
    models, summary = found["models"], found["summary"]
    timed = [EncoderShape(**_shape(t["shape"])) for t in found["timings"]]
    asked = [shape for shape in latency.recorded_shapes([NAME]) if shape not in timed]
    assert [EncoderShape(**_shape(model)) for model in models] == asked
    assert summary["models"] == len(models) > 10
    assert summary["median"] < 0.04
    assert summary["largest"] == pytest.approx(1.0, abs=0.1)
    assert summary["within"] == pytest.approx(1.0 - 1.0 / len(models))
    assert min(model["speedup"] for model in models) > 1.0


def test_untrained_models_are_timed(
    latency: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = latency.recorded_shapes([NAME])[:2]
    monkeypatch.setattr(latency, "recorded_shapes", lambda names: few)
    monkeypatch.setattr(latency, "calibration_shapes", lambda e, w, n: SHAPES)
    options = ["--recordings", NAME, "--threads", "1", "--limit-s", "0"]
    monkeypatch.setattr(
        sys, "argv", ["latency.py", *options, "--set", "trainer.throughput.batch_size=1"]
    )

    latency.main()

    out = capsys.readouterr().out
    assert "4 timed in" in out
    assert "2 predicted, and measured on 2 visits" in out


def _shape(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a shape, whose JSON has lists."""
    return {
        "num_instances": values["num_instances"],
        "hidden_size": values["hidden_size"],
        "head_counts": tuple(values["head_counts"]),
        "feedforward_sizes": tuple(values["feedforward_sizes"]),
    }


SHAPES = [
    EncoderShape(1, 128, (4,) * 4, (512,) * 4),
    EncoderShape(2, 128, (4,) * 4, (512,) * 4),
    EncoderShape(1, 128, (2, 0, 1, 0), (64, 32, 0, 0)),
    EncoderShape(2, 128, (1, 0, 0, 0), (0, 0, 16, 0)),
]
