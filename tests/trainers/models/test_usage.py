import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

import trainers.models.hugging_face
from trainers.errors import CheckpointError
from trainers.models.checkpoints import load_model, read_usage, save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.usage import Usage

USAGE = Usage(task="mood", text_columns=("title", "text"), max_length=12)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture
def directory(tiny_shape, tokenizer, tmp_path):
    torch.manual_seed(0)
    model = MuxedBert(replace(tiny_shape, num_instances=2, vocab_size=tokenizer.get_vocab_size()))
    save_model(model, tmp_path / "model", tokenizer, USAGE)
    return tmp_path / "model"


def test_a_directory_tells_its_use_and_loads_as_before(directory):
    assert read_usage(directory) == USAGE
    assert load_model(directory).shape.num_instances == 2


def test_transformers_knows_the_use_and_keeps_it(directory, tmp_path):
    config = AutoConfig.from_pretrained(directory)
    assert isinstance(config, trainers.models.hugging_face.MuxedBertConfig)
    assert (config.task, config.text_columns, config.max_length) == ("mood", ["title", "text"], 12)

    AutoModelForSequenceClassification.from_pretrained(directory).save_pretrained(tmp_path / "b")

    assert read_usage(tmp_path / "b") == USAGE
    assert load_model(tmp_path / "b").shape == load_model(directory).shape


def test_transformers_cuts_texts_to_the_length_of_training(directory):
    rows = AutoTokenizer.from_pretrained(directory)([20 * "film "], truncation=True)

    assert len(rows["input_ids"][0]) == 12


def test_a_checkpoint_of_training_tells_no_use(tiny_shape, tmp_path):
    save_model(MuxedBert(tiny_shape), tmp_path)

    assert read_usage(tmp_path) is None
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.task, config.text_columns, config.max_length) == (None, None, None)


@pytest.mark.parametrize(
    "change",
    [{"task": None}, {"max_length": "12"}, {"text_columns": "text"}, {"text_columns": [1]}],
)
def test_a_use_that_is_told_in_part_is_refused(directory, change):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(CheckpointError, match="must name task, text_columns, max_length, got"):
        read_usage(directory)
