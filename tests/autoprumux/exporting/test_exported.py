"""Exports of a real model, from the database to another process; needs torch."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from autoprumux import export_task
from autoprumux.cli.main import app
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository
from trainers.config import DataConfig
from trainers.data.load import load_splits
from trainers.data.tasks import find_task
from trainers.dense import with_labels
from trainers.models.checkpoints import load_model, save_model
from trainers.models.sources import builtin_directory, load_tokenizer

ROOT = str(Path(__file__).parents[3])
STORAGE = "sqlite:///study.db"
BY_CTRL_C = (130, -signal.SIGINT)
"""A shell shows 130 for both. Python started with `-m` ends by the signal itself, although the
program caught it, where the signal met a class being made from text (dataclasses, in imports)."""
FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture
def checkpoint(choice) -> Path:
    """The checkpoint of trial 4: the built-in model for two instances, never fine-tuned."""
    directory = Path(choice.model.measurement.checkpoint)
    model = with_labels(load_model(builtin_directory(2)), ("entailment", "not_entailment"))
    save_model(model, directory, load_tokenizer("builtin"))
    return directory


@pytest.fixture
def stored(study, checkpoint, folder) -> Path:
    """A database with the study, few built-in examples in its recipe."""
    data = {"num_train": 64, "num_validation": 33}
    trainer = {"task": "qnli", "data": data}
    fingerprint = load_splits(DataConfig(**data), find_task("qnli")).fingerprint
    record = replace(
        study,
        config={**study.config, "trainer": trainer},
        data_fingerprint=fingerprint,
    )
    database = open_database(STORAGE)
    try:
        repository = Repository(database)
        repository.save_study(record)
        for trial in record.trials:
            repository.save_start(record.name, trial.number, trial.candidate, 0, trial.choice)
            if trial.measurement is not None:
                repository.save_measurement(record.name, trial.number, trial.measurement)
            else:
                repository.save_failure(record.name, trial.number, trial.failure)
    finally:
        database.close()
    return checkpoint


def run(*arguments: str):
    return CliRunner().invoke(app, ["export", "--storage", STORAGE, *arguments])


def python(*arguments: str, cwd: Path | None = None):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


def test_an_export_is_loaded_by_the_code_of_its_own_card(stored, folder):
    outcome = export_task(folder / "model", trial=4, storage=STORAGE)

    assert {path.name for path in (folder / "model").iterdir()} == FILES == outcome.files.keys()
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code
    answered = python("-c", code[1], cwd=folder / "model").stdout
    assert re.fullmatch(r"\[('(not_)?entailment'(, )?){3}\]\n", answered)


def test_the_command_tells_what_it_wrote_and_checked(stored, folder):
    result = run("--trial", "4", "--out", "model", "--json")

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["trial"], told["num_instances"], told["sparsity"]) == (4, 2, 0.6)
    assert told["files"].keys() == FILES
    assert told["files"]["config.json"] == (folder / "model" / "config.json").stat().st_size
    assert told["checked"] == {"num_sequences": 34, "is_validation": True, "why_made_up": ""}
    assert told["onnx"] is None
    assert told["is_builtin_data"] is True


def test_the_command_prints_the_same_as_text(stored):
    result = run("--trial", "4", "--out", "model")

    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "N=2 s=0.60 (trial 4 of study qnli-embedded) is in model."
    assert "built-in data: made-up examples, not GLUE" in lines[2]
    assert lines[-1].startswith("Checked: loaded again by transformers, the logits of 34")
    assert "comparing them with the checkpoint ..." in result.stderr


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_a_damaged_checkpoint_leaves_a_sentence_and_nothing_else(stored, folder, content):
    (stored / "model.safetensors").write_bytes(content)

    result = run("--trial", "4", "--out", "model")

    assert result.exit_code == 1
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert re.fullmatch(r"error: The checkpoint of trial 4 .* is damaged: .*`--trial`.*", last)
    assert sorted(path.name for path in folder.glob("*model*")) == []
    assert list(folder.glob(".*")) == []


def test_ctrl_c_leaves_a_sentence_and_nothing_else(stored, folder):
    command = [
        "-m",
        "autoprumux",
        "export",
        "--storage",
        STORAGE,
        "--trial",
        "4",
        "--out",
        "model",
    ]
    with subprocess.Popen(
        [sys.executable, *command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    ) as process:
        assert process.stderr is not None
        while "comparing" not in process.stderr.readline():  # earlier it may still import torch,
            assert process.poll() is None  # where a weak reference's callback may eat the signal
        assert list(folder.glob(".model.*"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()

    assert process.returncode in BY_CTRL_C, said
    assert "Stopped. Nothing is in model; the same command starts anew." in said
    assert "Traceback" not in said
    assert [path.name for path in folder.iterdir() if "model" in path.name] == []
