"""Faulty input through the whole command line, down to the readers of the trainers."""

import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from typer.testing import CliRunner

from autoprumux.cli.main import app

TASK = """
name = "mood"
text_columns = ["text"]
label_column = "label"
labels = ["sad", "glad"]
"""
GOOD_ROWS = [("it rains", "sad"), ("it shines", "glad")] * 20


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a task of one's own, its files and the beginning of a model."""
    monkeypatch.chdir(tmp_path)
    Path("mood.toml").write_text(TASK, encoding="utf-8")
    Path("data").mkdir()
    Path("model").mkdir()
    Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save("model/tokenizer.json")
    for name in ("train", "dev"):
        write_rows(f"data/{name}.tsv", GOOD_ROWS)
    return tmp_path


def write_rows(path: str, rows: list[tuple[str, ...]], header: str = "text\tlabel") -> None:
    lines = [header, *("\t".join(row) for row in rows)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def assert_refused(folder: Path, arguments: list[str], message: str) -> None:
    before = sorted(folder.rglob("*"))

    places = ["--storage", "sqlite:///study.db", "--cache-dir", "cache", "--model", "./model"]
    result = CliRunner().invoke(app, ["search", *places, *arguments])

    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.fullmatch(f"error: {message}\n", result.stderr, re.DOTALL), result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_an_unknown_task_is_refused_with_those_that_there_are(folder):
    assert_refused(folder, ["--task", "nix"], ".*nix.*mnli.*qnli.*qqp.*sst2.*")


def test_a_missing_data_directory_is_refused(folder):
    assert_refused(folder, ["--task", "mood.toml", "--data", "nowhere"], ".*nowhere.*")


def test_a_directory_without_training_examples_is_refused(folder):
    Path("data/train.tsv").unlink()

    assert_refused(folder, ["--task", "mood.toml", "--data", "data"], ".*train.*")


def test_a_file_that_is_no_text_is_refused(folder):
    Path("data/dev.tsv").write_bytes(b"\xff\xfe\x00text\x00\x80")

    assert_refused(folder, ["--task", "mood.toml", "--data", "data"], ".*dev\\.tsv.*")


def test_a_row_with_too_many_columns_is_refused_with_its_line(folder):
    write_rows("data/dev.tsv", [*GOOD_ROWS, ("it snows", "sad", "surplus")])

    assert_refused(folder, ["--task", "mood.toml", "--data", "data"], ".*42.*dev\\.tsv.*")


def test_a_missing_column_is_refused_with_those_that_there_are(folder):
    write_rows("data/train.tsv", GOOD_ROWS, header="words\tlabel")

    assert_refused(folder, ["--task", "mood.toml", "--data", "data"], ".*`text`.*words.*")


def test_an_unknown_label_is_refused_with_its_value(folder):
    write_rows("data/train.tsv", [*GOOD_ROWS, ("it snows", "angry")])

    assert_refused(folder, ["--task", "mood.toml", "--data", "data"], ".*angry.*sad.*glad.*")


def test_a_model_directory_that_is_not_there_is_refused(folder):
    assert_refused(
        folder,
        ["--task", "mood.toml", "--data", "data", "--model", "./no-model"],
        ".*no-model.*",
    )
