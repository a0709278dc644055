import importlib.util
import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from autoprumux.study_files import load_study
from trainers.results import AccuracyResult, PhaseResult

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = (
    "data.num_train=64",
    "data.num_validation=32",
    "data.num_held_out=16",
    "finetune.num_updates=3",
    "finetune.batch_size=4",
    "prune.num_updates=12",
    "prune.batch_size=4",
    "prune.gate_learning_rate=1",
    "prune.tolerance=0.9",
    "finetune_pruned.num_updates=2",
    "finetune_pruned.batch_size=4",
)


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("distillation", BENCHMARKS / "distillation.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


def phase(name, duration_s, num_updates=10):
    return PhaseResult(
        name=name,
        num_updates=num_updates,
        duration_s=duration_s,
        memory_mib=1.0,
        is_cached=False,
        history=(),
    )


@pytest.fixture
def result():
    """What a training of N = 2 yields whose teacher took 100 seconds."""
    phases = [("prime", 7.0), ("finetune", 100.0), ("finetune", 20.0), ("prune", 4.0)]
    accuracy = AccuracyResult(
        accuracy=0.8, accuracy_std=0.0, num_examples=10, num_compositions=1, correctness=b""
    )
    return Namespace(
        phases=tuple(phase(name, seconds) for name, seconds in phases), accuracy=accuracy
    )


@pytest.mark.parametrize(
    ("sparsity", "num_updates", "seconds", "stretched_s"),
    [(0.0, 10, 27.0, 20.0), (0.9, 10, 4.0, 4.0)],
)
def test_a_row_counts_the_phases_of_its_width_without_the_teacher(
    script, result, sparsity, num_updates, seconds, stretched_s
):
    row = script._row("labels", 0, result, Namespace(sparsity=sparsity))

    assert (row.num_updates, row.seconds, row.stretched_s) == (num_updates, seconds, stretched_s)
    assert row.accuracy == 0.8


def test_the_first_variant_gets_the_updates_that_fill_the_time_of_the_slowest(script, result):
    first = script._row("labels", 0, result, Namespace(sparsity=0.0))
    slowest = replace(first, variant="states", seconds=57.0)
    config = load_study("embedded").trainer

    share = script._share_of_longer([first, slowest])
    longer = script._longer(config, Namespace(sparsity=0.0), share)

    assert share == 2.5  # 30 s more at 20 s for all updates
    assert longer.finetune.num_updates == 1500
    assert longer.prune == config.prune


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["labels", "logits", "states", "logits, states"]),
        ({"pretrain_updates": 5, "variants": ["states first"]}, ["labels", "states first"]),
        ({"sparsity": 0.9, "variants": ["both"]}, ["same width", "both"]),
    ],
)
def test_variants_are_compared_with_the_first(script, options, names):
    values = {"sparsity": 0.0, "variants": [], "pretrain_updates": 0, **options}

    assert list(script._variants(Namespace(**values))) == names


def test_an_unknown_variant_is_refused(script):
    options = Namespace(sparsity=0.0, variants=["both"], pretrain_updates=0)

    with pytest.raises(SystemExit, match="`--variants` has 'both', which is none of labels, log"):
        script._variants(options)


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", ["0", "0.6"])
def test_a_benchmark_ends_with_a_table_and_a_record(
    script, tmp_path, monkeypatch, capsys, sparsity
):
    out = tmp_path / "out.json"
    settings = [word for pair in TINY for word in ("--set", f"trainer.{pair}")]
    words = ["--sparsity", sparsity, "--cache", str(tmp_path / "cache"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["distillation.py", *words, *settings])

    script.main()
    first = capsys.readouterr()
    script.main()
    again = capsys.readouterr()

    record = json.loads(out.read_text())
    assert len(record["rows"]) in (4, 5)
    assert record["rows"][0]["variant"] == ("labels" if sparsity == "0" else "same width")
    assert "| variant | updates | accuracy | points | seconds |" in first.out
    assert again.out == first.out  # all taken from the cache
    assert "updates" not in again.err
