"""The example of docs/predict.md, run on a tiny model with the names that the page uses."""

import re
from dataclasses import replace
from pathlib import Path

import torch
from small_encoders import SMALL

from autoprumux.report.labels import make_writer
from trainers.models.checkpoints import save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.sources import load_tokenizer
from trainers.serving import predict

PAGE = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
SHAPE = replace(SMALL, embed_mode="single_pass")


def test_the_example_for_python_labels_every_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_model(MuxedBert(SHAPE), Path("model"), load_tokenizer("builtin"))
    found = re.search(r"<!-- run: predictor -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found

    exec(compile(found[1].replace("100_000", "100"), "docs/predict.md", "exec"), {})

    lines = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"'label': '(?:bad|good)', 'score': 0\.\d+", lines[0])) == 2
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]


def test_the_sizes_of_a_window_are_those_of_the_code():
    assert f"{predict.WINDOW_ROWS} of them" in PAGE
    assert f"{predict.WINDOW_CHARACTERS // 1_000_000} million characters" in PAGE


def test_the_columns_are_those_of_the_writer(tmp_path):
    with (tmp_path / "a").open("w", encoding="utf-8") as file:
        make_writer(file, "tsv", ["LABEL"], has_all=True)

    columns = (tmp_path / "a").read_text(encoding="utf-8").split()
    assert all(f"| `{column}` |" in PAGE for column in columns)
