"""The tables of docs/builtin.md are what the recordings say."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASKS = ("mnli", "qnli", "qqp", "sst2")


@pytest.fixture
def grid_tables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("grid_tables")


def test_the_page_has_what_is_printed(grid_tables, monkeypatch, capsys):
    names = [f"{task}-builtin-builtin" for task in TASKS]
    monkeypatch.setattr("sys.argv", ["grid_tables.py", *names])

    grid_tables.main()

    page = (ROOT / "docs" / "builtin.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 4 * 11 + 6
    assert [row for row in rows if row not in page] == []


def test_the_picture_is_written(grid_tables, monkeypatch, tmp_path):
    image = ["--image", str(tmp_path / "front.png")]
    monkeypatch.setattr("sys.argv", ["grid_tables.py", "qnli-builtin-builtin", *image])

    grid_tables.main()

    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
