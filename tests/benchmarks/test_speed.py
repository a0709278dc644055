import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = ["--size", "small", "--batch-size", "2", "--length", "16", "--repeats", "3"]


@pytest.fixture(scope="module")
def load():
    """Load a script as Python runs it: its directory is searched for the other one."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    sys.path.insert(0, str(BENCHMARKS))
    yield load
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("num_instances", [1, 10])
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.8, 0.9, 0.95])
def test_pruned_shapes_have_their_sparsity_in_every_layer(load, num_instances, sparsity):
    inference = load("inference")
    dense = inference.dense_shape("minilm", 128, "two_pass")

    shape = inference.pruned_shape(dense, num_instances, sparsity)

    assert shape.sparsity == pytest.approx(sparsity, abs=1e-4)
    assert shape.num_instances == num_instances
    for sizes in (shape.head_counts, shape.feedforward_sizes):
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("tables", ["by size", "one", "none"])
def test_inference_prints_and_writes_its_table(load, monkeypatch, tmp_path, capsys, tables):
    out = tmp_path / "table.json"
    cells = ["--widths", "1", "2", "--sparsities", "0", "0.8", "--tables", tables]
    inference = load("inference")
    monkeypatch.setattr(inference.folding, "LARGEST_TABLE", inference.folding.LARGEST_TABLE)
    monkeypatch.setattr(sys, "argv", ["inference.py", *SMALL, *cells, "--out", str(out)])

    inference.main()

    record = json.loads(out.read_text())
    assert [(r["num_instances"], r["sparsity"]) for r in record["rows"]] == [
        (1, 0.0),
        (1, 0.8),
        (2, 0.0),
        (2, 0.8),
    ]
    for row in record["rows"]:
        assert row["share"] == pytest.approx(row["speedup"] / row["ideal"])
        assert row["throughput"] > 0
    assert record["rows"][2]["ideal"] == pytest.approx(2.0)
    assert record["environment"]["torch_version"]
    assert len(capsys.readouterr().out.splitlines()) == 2 + 4


def test_training_compares_every_phase_with_the_trainer(load, monkeypatch, tmp_path, capsys):
    out = tmp_path / "table.json"
    monkeypatch.setattr(
        sys, "argv", ["training.py", *SMALL, "--widths", "1", "2", "--out", str(out)]
    )

    load("training").main()

    rows = json.loads(out.read_text())["rows"]
    assert [(r["num_instances"], r["phase"]) for r in rows] == [
        (1, "finetune"),
        (1, "prune"),
        (2, "finetune"),
        (2, "prune"),
        (2, "prime"),
        (2, "pretrain"),
    ]
    assert all(r["ratio_q1"] <= r["ratio"] <= r["ratio_q3"] for r in rows)
    assert "| `prune` | 2 |" in capsys.readouterr().out
