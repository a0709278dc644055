import json

import pytest

from trainers.errors import CheckpointError
from trainers.models.checkpoints import load_model
from trainers.models.hugging_face import MuxedBertConfig, MuxedBertForSequenceClassification
from trainers.serving.directories import read_directory


def test_an_exported_directory_tells_how_to_use_its_model(make_directory):
    described = {"text_columns": ["question", "sentence"], "max_length": 16, "task": "qnli"}
    path = make_directory(2, described=described)

    found = read_directory(path)

    assert found.text_columns == ("question", "sentence")
    assert (found.max_length, found.task) == (16, "qnli")
    assert found.labels == ("no", "perhaps", "yes")
    assert found.shape.num_instances == 2


def test_a_plain_directory_leaves_the_use_open(make_directory):
    found = read_directory(make_directory(labels=()))

    assert (found.text_columns, found.max_length, found.task) == ((), None, None)
    assert found.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_what_transformers_wrote_is_read_with_its_labels(make_directory, tmp_path):
    shape = load_model(make_directory(5)).shape
    names = {index: f"class {index}" for index in range(3)}
    config = MuxedBertConfig(**{**shape.to_dict(), "labels": None}, id2label=names)
    config.text_columns = ["sentence"]
    MuxedBertForSequenceClassification(config).save_pretrained(tmp_path / "saved")

    found = read_directory(tmp_path / "saved")

    assert found.labels == ("class 0", "class 1", "class 2")
    assert found.text_columns == ("sentence",)
    assert found.shape.head_counts == shape.head_counts


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"text_columns": "sentence"}, "`text_columns` in .* got 'sentence'"),
        ({"text_columns": ["a", "b", "c"]}, "a list of one or two names"),
        ({"max_length": "32"}, "`max_length` in .* must be a number of tokens, got '32'"),
        ({"task": 3}, "`task` in .* must be a name, got 3"),
        ({"id2label": {"0": "no", "1": "yes"}}, "a name for each of 3 classes, got {'0': 'no'"),
        ({"labels": ["no"]}, "`labels` in .* must be 3 names, got \\['no'\\]"),
        ({"model_type": "bert"}, "not of a `muxed_bert` model"),
    ],
)
def test_a_wrong_config_is_refused_with_its_value(make_directory, described, message):
    path = make_directory(described=described)

    with pytest.raises(CheckpointError, match=message):
        read_directory(path)


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere/config.json` cannot be read"):
        read_directory(tmp_path / "nowhere")


def test_damaged_json_is_refused(make_directory):
    path = make_directory()
    (path / "config.json").write_text(json.dumps([1]), encoding="utf-8")

    with pytest.raises(CheckpointError, match="must hold a JSON object"):
        read_directory(path)
