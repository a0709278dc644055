"""Model directories from strangers: no code, no memory without end, sentences for the rest."""

import json
import os
import struct

import pytest
import torch
from fuzz.seeds import CONFIG

from trainers.config import ModelConfig
from trainers.errors import CheckpointError
from trainers.models.checkpoints import (
    load_model,
    make_model,
    read_json,
    read_shape,
    read_tensors,
    save_model,
)
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.models.sources import load_stored, load_tokenizer
from trainers.models.usage import USAGE_KEYS

SHAPE = {k: v for k, v in CONFIG.items() if k not in (*USAGE_KEYS, "id2label")}


@pytest.fixture
def directory(tmp_path):
    """A right model directory."""
    save_model(MuxedBert(MuxedBertShape.from_dict(dict(SHAPE))), tmp_path / "model")
    return tmp_path / "model"


def rewrite(directory, **changes):
    (directory / "config.json").write_text(json.dumps(SHAPE | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 10**12},
        {"hidden_size": 10**9},
        {"num_demux_layers": 10**9},
        {"num_instances": 10**9},
        {"num_instances": 0},
        {"num_classes": True},
        {"max_positions": -1},
        {"head_counts": [1] * 100_000, "feedforward_sizes": [1] * 100_000},
        {"head_counts": [2, 1, 1]},
        {"head_counts": [2, "1"]},
        {"head_counts": [2, 1e9]},
        {"feedforward_sizes": 7},
        {"labels": [["no"], "yes"]},
        {"multiplexer": "__import__('os')"},
        {"dropout": float("nan")},
        {"layer_norm_eps": "small"},
        {"vocab_size": 4_000_000, "hidden_size": 100_000},
    ],
)
def test_sizes_that_no_encoder_has_are_refused(directory, changes):
    rewrite(directory, **changes)

    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(directory)


def test_a_config_of_more_weights_than_there_are_takes_no_memory(directory, monkeypatch):
    rewrite(directory, vocab_size=4_000_000)
    monkeypatch.setattr(MuxedBert, "__init__", lambda *_: pytest.fail("it was made"))

    with pytest.raises(CheckpointError, match=r"describes 32,\d{3},\d{3} or more"):
        load_model(directory)


@pytest.mark.parametrize("num_instances", [1, 2, 5])
@pytest.mark.parametrize("demultiplexer", ["rsa", "index_prefix"])
@pytest.mark.parametrize("multiplexer", ["gaussian_hadamard", "contextual"])
def test_the_bound_of_weights_is_below_their_number(num_instances, demultiplexer, multiplexer):
    shape = MuxedBertShape.from_dict(
        SHAPE
        | {"num_instances": num_instances, "demultiplexer": demultiplexer}
        | {"multiplexer": multiplexer, "num_demux_layers": 3}
    )
    model = MuxedBert(shape)
    num_weights = sum(tensor.numel() for tensor in model.state_dict().values())

    assert 0.4 * num_weights < shape.num_least_weights <= num_weights
    assert make_model(shape, model.state_dict(), "here").shape == shape


def header_of(text, weights=b"\0" * 16):
    content = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(content)) + content + weights


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 10**12) + b"{}",
        struct.pack("<Q", 2**64 - 1) + b"{}",
        b"",
        b"\0" * 7,
        header_of("{" * 5000),
        header_of('{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 16]}}'),
        header_of('{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 9999999999999]}}'),
        header_of('{"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}'),
        header_of('{"a": {"dtype": "PICKLE", "shape": [4], "data_offsets": [0, 16]}}'),
        header_of('{"a": {"dtype": "F32", "shape": [18446744073709551615, 2], '
                  '"data_offsets": [0, 16]}}'),
        b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94",
    ],
)  # fmt: skip
def test_damaged_weights_are_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_tensors(path)


@pytest.mark.parametrize("read", [read_json, read_tensors])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(CheckpointError, match="is a pipe or a device"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "9" * 5000, '{"model": {}}', '{"model": 1, "added_tokens": [{}]}']
)
def test_a_damaged_tokenizer_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"tokenizer\.json|tokenizer of the BERT"):
        load_tokenizer(str(tmp_path))


def test_a_pickle_beside_the_config_is_never_opened(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    described = {"model_type": "bert", "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(described), encoding="utf-8")

    with pytest.raises(CheckpointError, match="can run code and are not opened"):
        load_stored(ModelConfig(source=str(tmp_path)))


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", 7, ["a"], ""]
)
def test_an_index_names_only_files_beside_it(tmp_path, name):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    index = {"weight_map": {"a": name}}
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index), encoding="utf-8")

    with pytest.raises(CheckpointError, match="must name files beside it"):
        load_stored(ModelConfig(source=str(tmp_path)))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"vocab_size": -5},
        {"num_attention_heads": 0},
        {"hidden_size": "wide"},
        {"vocab_size": 4_000_000},
    ],
)
def test_a_foreign_config_is_checked_before_anything_is_made(tmp_path, changes):
    from safetensors.torch import save_file

    described = {"model_type": "bert", "hidden_size": 64, "num_attention_heads": 2} | changes
    (tmp_path / "config.json").write_text(json.dumps(described), encoding="utf-8")
    save_file({"bert.x": torch.zeros(2)}, tmp_path / "model.safetensors")

    with pytest.raises(CheckpointError):
        load_stored(ModelConfig(source=str(tmp_path)))


def test_code_beside_a_foreign_config_is_not_run_nor_asked_about(tmp_path, monkeypatch):
    described = {"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(described), encoding="utf-8")
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))

    with pytest.raises(CheckpointError):
        load_stored(ModelConfig(source=str(tmp_path)))

    assert not (tmp_path / "ran").exists()


def test_a_right_directory_is_loaded(directory):
    assert load_model(directory).shape == read_shape(directory)
