import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "search.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_search", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_table_has_a_model_faster_than_the_baseline_within_its_budget(benchmark):
    for index in range(10):
        table = benchmark.make_table("tuning", index)

        baseline = table.measured[benchmark.BASELINE]
        assert baseline.speedup == 1.0
        assert len(table.measured) == 36
        assert any(
            m.speedup > 1.0 and baseline.accuracy - m.accuracy <= table.budget + 1e-9
            for m in table.measured.values()
        )


def test_the_families_share_no_table(benchmark):
    tuning, reporting = (benchmark.make_table(name, 0) for name in ("tuning", "reporting"))

    assert tuning != reporting
    assert tuning == benchmark.make_table("tuning", 0)


def test_a_benchmark_goes_on_where_it_stopped(benchmark, tmp_path, capsys):
    options = Namespace(
        out=tmp_path, family="tuning", tables=2, samplers="performance_model,grid", shard="0/1"
    )
    benchmark.run(options)
    kept = tmp_path / "tuning-001-grid.json"
    before = {file: file.read_text() for file in tmp_path.iterdir()}
    kept.write_text(before[kept].replace('"grid"', '"kept"'))
    (tmp_path / "tuning-000-grid.json").unlink()

    benchmark.run(options)
    benchmark.print_table(options)

    assert len(before) == 4
    assert '"kept"' in kept.read_text()
    assert (tmp_path / "tuning-000-grid.json").read_text() == before[
        tmp_path / "tuning-000-grid.json"
    ]
    printed = capsys.readouterr().out
    assert "performance_model" in printed
    assert "speedup" in printed


def test_shards_are_the_whole_family(benchmark, tmp_path):
    for shard in ("0/2", "1/2"):
        benchmark.run(
            Namespace(out=tmp_path, family="tuning", tables=3, samplers="grid", shard=shard)
        )

    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"tuning-00{index}-grid.json" for index in range(3)]
