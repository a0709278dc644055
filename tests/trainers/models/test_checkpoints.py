import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import (
    groups_of,
    random_masks,
    random_model,
    seeds,
    shapes,
    sizes,
)

from trainers.errors import CheckpointError, DiskError
from trainers.models.checkpoints import (
    load_model,
    read_tensors,
    save_model,
    save_tensors,
    save_text,
)
from trainers.models.compaction import compact


def change_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("num_instances", [1, 2])
def test_saved_models_come_back_with_identical_logits(
    make_model, make_groups, tmp_path, num_instances
):
    model = make_model(num_instances, dtype=torch.float32, labels=("no", "yes"))
    batch = make_groups(num_instances)

    save_model(model, tmp_path)

    loaded = load_model(tmp_path)
    assert loaded.shape == model.shape
    assert torch.equal(loaded(batch), model(batch))


@settings(max_examples=15, deadline=None)
@given(shape=shapes(), size=sizes(), seed=seeds(), closed=st.floats(0.1, 0.9), soft=st.booleans())
def test_saved_compacted_models_come_back_with_identical_logits(shape, size, seed, closed, soft):
    dense, batch = random_model(shape, seed=seed), groups_of(shape, size, seed)
    model = compact(dense, random_masks(shape, seed=seed, closed=closed, soft=soft)).float()

    with TemporaryDirectory() as folder:
        save_model(model, Path(folder))
        loaded = load_model(Path(folder))

    assert loaded.shape == model.shape
    assert loaded.shape.num_encoder_parameters < shape.num_encoder_parameters or closed < 0.5
    assert torch.equal(loaded(batch), model(batch))


def test_the_shape_of_a_loaded_model_comes_from_its_config_alone(make_model, make_masks, tmp_path):
    save_model(compact(make_model(), make_masks()).float(), tmp_path)
    shape = json.loads((tmp_path / "config.json").read_text())
    change_config(tmp_path, feedforward_sizes=[n + 1 for n in shape["feedforward_sizes"]])

    with pytest.raises(CheckpointError, match=r"do not fit.*feedforward"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_directory_with_a_missing_file_is_refused(make_model, tmp_path, name):
    save_model(make_model(dtype=torch.float32), tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(CheckpointError, match=f"{name}` cannot be read"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", b"{"), ("config.json", b"\xff"), ("model.safetensors", b"junk")],
)
def test_a_model_directory_with_a_damaged_file_is_refused(make_model, tmp_path, name, content):
    save_model(make_model(dtype=torch.float32), tmp_path)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=f"{name}` cannot be read"):
        load_model(tmp_path)


def test_a_config_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[1]")

    with pytest.raises(CheckpointError, match="must hold a JSON object, got list"):
        load_model(tmp_path)


def test_files_are_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_tensors({"a": torch.zeros(3)}, path, {})

    def break_off(*args):
        path.with_suffix(".partial").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainers.models.checkpoints.save_file", break_off)
    with pytest.raises(DiskError, match=r"could not be written: .*No space left on device"):
        save_tensors({"a": torch.ones(3)}, path, {})

    assert torch.equal(read_tensors(path)["a"], torch.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(DiskError, match=r"file/inner/result\.json` could not be written"):
        save_text("{}", tmp_path / "file" / "inner" / "result.json")


def test_half_precision_weights_become_single_precision(make_model, tmp_path):
    model = make_model(dtype=torch.float32)
    save_model(model, tmp_path)
    tensors = {k: t.half() for k, t in read_tensors(tmp_path / "model.safetensors").items()}
    save_tensors(tensors, tmp_path / "model.safetensors", {})

    loaded = load_model(tmp_path)

    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
