import json
from dataclasses import replace

import pytest
import torch

from trainers.config import DataConfig, ModelConfig, TaskConfig, ThroughputConfig
from trainers.data.load import load_splits
from trainers.data.tasks import find_task
from trainers.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    OutOfMemoryError,
)
from trainers.models.checkpoints import load_model, save_model
from trainers.phases.precision import Precision
from trainers.pipeline import Trainer


@pytest.mark.parametrize(
    ("num_instances", "sparsity", "message"),
    [
        (0, 0.0, "`num_instances` must be at least 1, got 0"),
        (1001, 0.0, "`num_instances` must be at most 1000, got 1001"),
        (1, 1.2, r"`sparsity` must be in \[0, 1\), got 1\.2"),
        (1, -0.1, r"`sparsity` must be in \[0, 1\), got -0\.1"),
        (1, float("nan"), r"`sparsity` must be in \[0, 1\), got nan"),
    ],
)
def test_an_impossible_candidate_is_refused(
    train, config, tmp_path, num_instances, sparsity, message
):
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path, num_instances, sparsity)

    assert not list(tmp_path.iterdir())


def refuse(train, config, tmp_path, error, message):
    """Both the check and the training refuse, and nothing is written."""
    with pytest.raises(error, match=message):
        Trainer(config, shared_seed=0, cache_dir=tmp_path / "cache").check()
    with pytest.raises(error, match=message):
        train(config, tmp_path / "cache", 1, 0.0)
    assert not (tmp_path / "cache").exists()


def test_inputs_without_fault_yield_the_fingerprint_of_the_data(config, tmp_path):
    fingerprint = Trainer(config, shared_seed=0, cache_dir=tmp_path / "cache").check()

    assert fingerprint == load_splits(config.data, find_task("sst2")).fingerprint
    assert fingerprint.startswith("builtin:")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused(train, config, tmp_path):
    refuse(train, replace(config, device="cuda"), tmp_path, ConfigError, "`device` is `cuda`")


def test_an_unknown_task_is_refused(train, config, tmp_path):
    refuse(train, replace(config, task="nix"), tmp_path, DataError, "`nix`.*`sst2`")


def test_a_task_of_one_s_own_has_no_built_in_data(train, config, tmp_path):
    task = TaskConfig(name="mood", text_columns=("text",), labels=("sad", "glad"))

    refuse(train, replace(config, task=task), tmp_path, DataError, "no task `mood`")


@pytest.fixture
def source_copy(source, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "No tokenizer of the BERT or RoBERTa family in `.*copy`"),
        ("tokenizer.json", b"{", r"tokenizer\.json` cannot be read"),
        ("model.safetensors", None, r"holds no weights|model\.safetensors` cannot be read"),
        ("model.safetensors", b"junk", r"model\.safetensors` cannot be read as safetensors"),
        ("config.json", b"{", r"config\.json` cannot be read"),
        ("config.json", b'{"model_type": "roberta"}', "do not fit its config, which describes"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    train, config, source_copy, tmp_path, name, content, message
):
    if content is None:
        (source_copy / name).unlink()
    else:
        (source_copy / name).write_bytes(content)

    refuse(
        train,
        replace(config, model=ModelConfig(source=str(source_copy))),
        tmp_path,
        CheckpointError,
        message,
    )


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    train, config, source_copy, tmp_path
):
    described = json.loads((source_copy / "config.json").read_text())
    num_tokens = described["vocab_size"]
    model = load_model(source_copy)
    table = model.embeddings.tokens.weight.detach()[: num_tokens - 7]
    model.embeddings.tokens = torch.nn.Embedding.from_pretrained(table)
    model.shape = replace(model.shape, vocab_size=num_tokens - 7)
    save_model(model, source_copy)

    refuse(
        train,
        replace(config, model=ModelConfig(source=str(source_copy))),
        tmp_path,
        CheckpointError,
        f"has {num_tokens} tokens, but the model's table only {num_tokens - 7}",
    )


def test_a_checkpoint_without_cls_and_sep_is_refused(train, config, source_copy, tmp_path):
    described = json.loads((source_copy / "tokenizer.json").read_text())
    described["post_processor"] = None
    (source_copy / "tokenizer.json").write_text(json.dumps(described))

    refuse(
        train,
        replace(config, model=ModelConfig(source=str(source_copy))),
        tmp_path,
        CheckpointError,
        r"must put \[CLS\] before and \[SEP\] after",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"data": DataConfig(max_length=33, num_train=20, num_validation=20, num_held_out=8)},
        {"throughput": ThroughputConfig(length=33)},
    ],
)
def test_lengths_beyond_the_positions_of_the_model_are_refused(train, config, tmp_path, change):
    refuse(
        train,
        replace(config, **change),
        tmp_path,
        ConfigError,
        "must be at most 32, .* model, got 33",
    )


def test_running_out_of_memory_is_an_error_of_its_own(train, config, tmp_path, monkeypatch):
    def exhaust(self):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(Precision, "autocast", exhaust)

    with pytest.raises(OutOfMemoryError, match="with one group of a batch at a time"):
        train(config, tmp_path, 1, 0.0)


def test_other_errors_of_torch_keep_their_traceback(train, config, tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Precision, "autocast", fail)

    with pytest.raises(RuntimeError, match="a bug"):
        train(config, tmp_path, 1, 0.0)


@pytest.fixture
def heads_only(config):
    """A recipe that can remove a third of the weights."""
    return replace(config, prune=replace(config.prune, gates=("heads",)))


def test_gates_that_cannot_reach_the_sparsity_are_refused_before_any_training(
    train, heads_only, tmp_path
):
    with pytest.raises(ConfigError, match=r"only heads reaches a sparsity of at most 0\.\d+, not"):
        train(heads_only, tmp_path, 2, 0.6)

    assert not list(tmp_path.iterdir())


def test_a_check_refuses_a_sparsity_that_the_gates_cannot_reach(heads_only, tmp_path):
    trainer = Trainer(heads_only, shared_seed=0, cache_dir=tmp_path)

    assert trainer.check([0.0, 0.25]) == trainer.check()
    with pytest.raises(ConfigError, match=r"only heads reaches .*, not 0\.6000"):
        trainer.check([0.0, 0.25, 0.6])


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (257, "N=257 would hold an example twice, as there are 256 to train on"),
        (1001, "`num_instances` must be at most 1000, got 1001"),
    ],
)
def test_a_width_beyond_data_or_models_is_refused_before_any_training(
    train, config, tmp_path, width, message
):
    trainer = Trainer(config, shared_seed=0, cache_dir=tmp_path)

    assert trainer.check([0.0], [1, 256]) == trainer.check()
    with pytest.raises(ConfigError, match=message):
        trainer.check([0.0], [1, width])
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path, width, 0.0)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def blocks(config):
    """A recipe whose wide models are made of blocks with heads of their own."""
    return replace(config, model=replace(config.model, widening="blocks"))


def test_a_check_refuses_a_width_that_leaves_an_instance_without_a_head(config, blocks, tmp_path):
    trainer = Trainer(blocks, shared_seed=0, cache_dir=tmp_path)

    assert trainer.check([0.0], [1, 2]) == trainer.check()
    with pytest.raises(ConfigError, match=r"N must be at most that, got 40"):
        trainer.check([0.0], [1, 2, 40])
    assert Trainer(config, shared_seed=0, cache_dir=tmp_path).check([0.0], [40])


def test_a_width_that_leaves_an_instance_without_a_head_is_refused_before_any_training(
    train, blocks, tmp_path
):
    with pytest.raises(ConfigError, match=r"N must be at most that, got 40"):
        train(blocks, tmp_path, 40, 0.0)

    assert not list(tmp_path.iterdir())
