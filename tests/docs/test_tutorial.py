"""The tutorial, block by block, on a small file and with a short training."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoprumux.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'```(python|toml|sh)(?: title="([^"]+)")?\n(.*?)```', PAGE, re.DOTALL)
SMALLER = {
    "13000": "700",
    "test_size=2000": "test_size=103",
    "max_trials = 5": "max_trials = 3",
}
SHORTER = """num_held_out = 64

[trainer.finetune]
num_updates = 40

[trainer.prune]
num_updates = 6
tolerance = 0.99
allows_slow_gates = true

[trainer.finetune_pruned]
num_updates = 6

[trainer.accuracy]
num_compositions = 1

[trainer.throughput]
num_warmup = 0
num_repeats = 2
"""


def smaller(text: str) -> str:
    for before, after in SMALLER.items():
        text = text.replace(before, after)
    return text


def test_every_number_that_is_made_smaller_is_in_the_tutorial():
    assert all(before in PAGE for before in SMALLER)
    assert [language for language, _, _ in BLOCKS].count("sh") == 4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_tutorial_leads_from_a_table_to_labels(folder):
    for language, title, body in BLOCKS:
        if language == "python":
            exec(compile(smaller(body), "tutorial", "exec"), {})
        elif language == "toml":
            added = SHORTER if title == "recipe.toml" else ""
            (folder / title).write_text(smaller(body) + added, encoding="utf-8")
        else:
            outcome = CliRunner().invoke(app, shlex.split(body)[1:])
            assert outcome.exit_code == 0, outcome.output

    model = folder / "questions-model"
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["text_columns"] == ["question", "other question"]
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 103
    assert {row["label"] for row in rows} <= {"no", "yes"}
