import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from trainers.config import DataConfig, TaskConfig
from trainers.errors import CheckpointError, DiskError, ExportError
from trainers.models.checkpoints import (
    load_model,
    read_tensors,
    read_usage,
    save_model,
    save_tensors,
)
from trainers.models.muxed_bert import MuxedBert
from trainers.models.usage import Usage
from trainers.serving import export as export_module
from trainers.serving.export import export_model
from trainers.serving.sample import draw_sample


@pytest.fixture(scope="module")
def checkpoint(tiny_shape, tokenizer, tmp_path_factory):
    """A model for 3 instances that nobody trained, as a phase of training leaves one."""
    shape = replace(
        tiny_shape,
        num_instances=3,
        vocab_size=tokenizer.get_vocab_size(),
        max_positions=32,
        labels=("negative", "positive"),
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("checkpoint")
    save_model(MuxedBert(shape), directory, tokenizer)
    return directory


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy of the checkpoint that may be damaged."""
    (tmp_path / "copy").mkdir()
    for path in checkpoint.iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "copy"


def test_an_export_is_the_checkpoint_and_tells_its_use(checkpoint, out, config):
    result = export_model(checkpoint, out, config)

    before, after = load_model(checkpoint).state_dict(), load_model(out).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert read_usage(out) == Usage(task="sst2", text_columns=("sentence",), max_length=32)
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert result.num_sequences == 84  # 83 validation examples in full groups of three
    assert result.is_validation
    assert result.onnx is None


def test_weights_that_change_on_the_way_are_noticed(checkpoint, out, config, monkeypatch):
    def save(model, directory, tokenizer, usage):
        save_model(model, directory, tokenizer, usage)
        tensors = read_tensors(directory / "model.safetensors")
        tensors["sequence_head.output.bias"] += 1e-6
        save_tensors(tensors, directory / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(export_module, "save_model", save)

    with pytest.raises(ExportError, match=r"differs from its checkpoint by \d.*e-0\d in a logit"):
        export_model(checkpoint, out, config)


def test_a_tokenizer_that_encodes_otherwise_is_noticed(checkpoint, out, config, monkeypatch):
    def save(model, directory, tokenizer, usage):
        save_model(model, directory, tokenizer, usage)
        path = directory / "tokenizer.json"
        values = json.loads(path.read_text())
        vocabulary = values["model"]["vocab"]
        vocabulary["the"], vocabulary["was"] = vocabulary["was"], vocabulary["the"]
        path.write_text(json.dumps(values))

    monkeypatch.setattr(export_module, "save_model", save)

    with pytest.raises(ExportError, match=r"tokenizer in .* yields other `input_ids`"):
        export_model(checkpoint, out, config)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_checkpoint_that_is_gone_or_damaged_is_refused(copy, out, config, name, content):
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=str(copy)):
        export_model(copy, out, config)


def test_a_folder_that_cannot_be_written_is_a_sentence(checkpoint, tmp_path, config):
    (tmp_path / "file").touch()

    with pytest.raises(DiskError, match="could not be written"):
        export_model(checkpoint, tmp_path / "file", config)


@pytest.mark.parametrize("columns", [("text",), ("title", "text")])
def test_without_the_validation_set_made_up_texts_are_compared_and_it_is_said(
    checkpoint, out, config, columns
):
    task = TaskConfig(name="mood", text_columns=columns, labels=("sad", "glad"))
    gone = replace(config, task=task, data=DataConfig(source=str(out / "gone"), max_length=24))

    result = export_model(checkpoint, out, gone)

    assert not result.is_validation
    assert "gone" in result.why_made_up
    assert result.num_sequences == 258
    assert result.text_columns == columns


def test_examples_that_changed_are_not_taken_for_those_of_the_measurement(checkpoint, out, config):
    result = export_model(checkpoint, out, config, fingerprint="builtin:sst2:0123")

    assert not result.is_validation
    assert result.why_made_up == "`builtin` holds other examples than in training."


def test_a_sample_is_full_groups_of_validation_examples(config, tokenizer, out, checkpoint):
    from trainers.data.tasks import find_task

    sample = draw_sample(config.data, find_task("sst2"), tokenizer, 5)

    assert len(sample.texts) == 85
    assert sample.texts[83:] == sample.texts[:2]
    groups = sample.groups(5)
    assert groups.input_ids.shape[:2] == (17, 5)
    assert torch.equal(groups.input_ids[1, 2], sample.rows["input_ids"][7])
    assert groups.attention_mask.dtype == torch.bool


def test_an_export_classifies_through_transformers(checkpoint, out, config):
    export_model(checkpoint, out, config)

    model = AutoModelForSequenceClassification.from_pretrained(out)

    assert model.config.id2label == {0: "negative", 1: "positive"}
