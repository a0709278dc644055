"""The example of docs/export.md, run on an export of an untrained model."""

import re
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from trainers.config import DataConfig, ThroughputConfig, TrainerConfig
from trainers.dense import with_labels
from trainers.models.checkpoints import load_model, save_model
from trainers.models.sources import builtin_directory, load_tokenizer
from trainers.serving.export import export_model

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_for_onnxruntime_classifies_each_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = with_labels(load_model(builtin_directory(5)), ("negative", "positive"))
    save_model(model, Path("checkpoint"), load_tokenizer("builtin"))
    Path("model").mkdir()
    config = TrainerConfig(
        task="sst2",
        data=DataConfig(num_train=16, num_validation=64, num_held_out=16),
        throughput=ThroughputConfig(batch_size=2, num_repeats=1),
    )
    export_model(Path("checkpoint"), Path("model"), config, with_onnx=True)

    code = re.search(r"<!-- run: onnx -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert code
    exec(compile(code[1], "docs/export.md", "exec"), {})

    assert re.fullmatch(r"\[('(negative|positive)'(, )?){3}\]\n", capsys.readouterr().out)
