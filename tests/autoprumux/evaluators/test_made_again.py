"""A recording of real trainings is made again from its header; needs torch."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from autoprumux.api.record_again import record_again
from autoprumux.api.recordings import export_recorded
from autoprumux.api.search import run_search
from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.errors import UsageError
from trainers.config import AccuracyConfig, DataConfig, ThroughputConfig, TrainerConfig
from trainers.phase_config import FinetuneConfig, FinetunePrunedConfig, PrimeConfig, PruneConfig

_SIZE = {"batch_size": 4, "learning_rate": 1e-3}
CONFIG = StudyConfig(
    name="sst2-small",
    search=SearchConfig(
        widths=(1, 2), sparsities=(0.0, 0.6), sampler="grid", stop_chance=0.0, stop_hopeless=False
    ),
    trainer=TrainerConfig(
        task="sst2",
        device="cpu",
        data=DataConfig(num_train=0, num_validation=0, num_held_out=16),
        prime=PrimeConfig(num_updates=2, **_SIZE),
        finetune=FinetuneConfig(num_updates=3, num_evaluations=2, **_SIZE),
        prune=PruneConfig(num_updates=12, gate_learning_rate=1.0, tolerance=0.5, **_SIZE),
        finetune_pruned=FinetunePrunedConfig(num_updates=3, num_evaluations=2, **_SIZE),
        accuracy=AccuracyConfig(num_compositions=1),
        throughput=ThroughputConfig(batch_size=2, num_repeats=2, num_warmup=0),
    ),
)
"""All phases of real trainings in some seconds; nothing is learned."""

REPEATED = ("num_instances", "sparsity", "seed", "training_seed", "accuracy", "sparsity_achieved")
"""Columns that do not hang on the clock."""


@pytest.fixture(scope="module")
def write_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Factory: a directory of made-up examples in the form of SST-2."""

    def write(seed: int) -> Path:
        directory = tmp_path_factory.mktemp("data") / "SST-2"
        directory.mkdir()
        generator = np.random.default_rng(seed)
        for split, number in (("train", 80), ("dev", 21)):
            labels = generator.integers(2, size=number)
            lines = [
                f"{('bad', 'good')[label]} number {i}\t{label}" for i, label in enumerate(labels)
            ]
            (directory / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *lines, ""]))
        return directory

    return write


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="") as lines:
        return [[row[key] for key in REPEATED] for row in csv.DictReader(lines)]


@pytest.mark.slow
def test_a_recording_of_trainings_is_made_again_on_data_that_are_given(
    write_data: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_data(0)
    trainer = replace(CONFIG.trainer, data=replace(CONFIG.trainer.data, source=str(data)))
    search = {"storage": "sqlite:///first.db", "cache_dir": tmp_path / "cache"}
    run_search(replace(CONFIG, trainer=trainer), **search)
    _, rows = export_recorded(["sst2-small"], tmp_path / "first", storage="sqlite:///first.db")
    again = {"storage": "sqlite:///again.db", "cache_dir": tmp_path / "other"}

    with pytest.raises(UsageError, match=r"the data `SST-2`, whose folder is not recorded"):
        record_again(str(rows), tmp_path / "again", **again)
    with pytest.raises(UsageError, match=r"made with other examples \(files:sst2:"):
        record_again(str(rows), tmp_path / "again", data=str(write_data(1)), **again)
    _, made = record_again(str(rows), tmp_path / "again", data=str(data), **again)

    assert len(rows_of(rows)) == 4
    assert rows_of(made) == rows_of(rows)
