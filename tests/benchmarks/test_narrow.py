"""What a narrow model is worth that was taught by layers: a benchmark with one row per weight."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = {
    "trainer.model.widening": '"blocks"',
    "trainer.finetune.num_updates": 2,
    "trainer.narrow.num_updates": 4,
    "trainer.narrow.num_evaluations": 2,
    "trainer.data.num_train": 64,
    "trainer.data.num_held_out": 32,
    "trainer.data.num_validation": 32,
}


@pytest.fixture
def run_narrow(monkeypatch, tmp_path):
    """Factory: `run_narrow(4, "0", "0.5")` trains and yields the record."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    narrow = importlib.import_module("narrow")

    def run(width, *weights):
        out = tmp_path / "narrow.json"
        settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
        asked = ["--width", str(width), "--weights", *weights, "--cache", str(tmp_path / "cache")]
        monkeypatch.setattr("sys.argv", ["narrow.py", *asked, "--out", str(out), *settings])
        narrow.main()
        return json.loads(out.read_text(encoding="utf-8"))

    return run


def test_each_weight_has_a_row_and_a_second_run_trains_nothing(run_narrow, capsys):
    record = run_narrow(4, "0", "0.5")

    rows = record["rows"]
    assert [row["layer_distill_weight"] for row in rows] == [0.0, 0.5]
    assert all(len(row["held_out"]) == 2 and row["num_updates"] == 4 for row in rows)
    printed = capsys.readouterr()
    assert f"{100 * max(rows[1]['held_out']):.1f}" in printed.out.splitlines()[-1]
    assert printed.err.count("narrow: 4 updates") == 2

    again = run_narrow(4, "0.5")

    assert again["rows"] == rows[1:]
    assert "updates" not in capsys.readouterr().err


def test_a_width_that_the_source_has_weights_of_is_refused(run_narrow):
    with pytest.raises(SystemExit, match=r"no narrow model for N = 2: `trainer\.model\.widening`"):
        run_narrow(2, "0")
