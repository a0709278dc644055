import builtins

import numpy as np
import pytest
import torch

from trainers.errors import CheckpointError, ConfigError, OutOfMemoryError
from trainers.serving import backends
from trainers.serving.backends import OnnxBackend, load_backend
from trainers.serving.directories import read_directory
from trainers.serving.predict import Predictor

VOCABULARY = 1000


@pytest.fixture
def directory(make_directory):
    return make_directory(2)


def write_graph(path, *, inputs=("input_ids", "attention_mask", "token_type_ids")):
    """A graph whose logits are sums of table rows over the attended tokens, plus their types."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make_node, kinds = onnx.helper.make_node, onnx.TensorProto
    table = np.random.default_rng(0).normal(size=(VOCABULARY, 3)).astype(np.float32)
    nodes = [
        make_node("Gather", ["table", inputs[0]], ["rows"]),
        make_node("Cast", [inputs[1]], ["mask"], to=kinds.FLOAT),
        make_node("Unsqueeze", ["mask", "last"], ["factors"]),
        make_node("Mul", ["rows", "factors"], ["masked"]),
        make_node("ReduceSum", ["masked", "one"], ["sums"], keepdims=0),
        make_node("Cast", [inputs[2]], ["types"], to=kinds.FLOAT),
        make_node("ReduceSum", ["types", "one"], ["segments"], keepdims=1),
        make_node("Add", ["sums", "segments"], ["logits"]),
    ]
    shape = ["rows", "length"]
    graph = onnx.helper.make_graph(
        nodes,
        "sums",
        [onnx.helper.make_tensor_value_info(name, kinds.INT64, shape) for name in inputs],
        [onnx.helper.make_tensor_value_info("logits", kinds.FLOAT, ["rows", 3])],
        [
            onnx.numpy_helper.from_array(table, "table"),
            onnx.numpy_helper.from_array(np.array([-1]), "last"),
            onnx.numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, path / "model.onnx")
    return table


def test_a_graph_gets_flat_rows_and_its_logits_come_back_in_groups(directory):
    table = write_graph(directory)
    rng = np.random.default_rng(1)
    ids, types = rng.integers(0, VOCABULARY, (3, 2, 7)), rng.integers(0, 2, (3, 2, 7))
    mask = rng.random((3, 2, 7)) < 0.7

    found = OnnxBackend(read_directory(directory), "cpu").run(ids, mask, types)

    expected = (table[ids] * mask[..., None]).sum(axis=2) + types.sum(axis=2)[..., None]
    assert found.shape == (3, 2, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_predictor_runs_the_graph_of_its_directory(directory, tokenizer):
    table = write_graph(directory)
    texts = ["the film", "a dull index of pages", "clock"]

    found = Predictor(directory, backend="onnx", device="cpu")(texts, top_k=None)

    for text, scores in zip(texts, found, strict=True):
        logits = table[tokenizer.encode(text).ids].sum(axis=0)
        expected = np.exp(logits) / np.exp(logits).sum()
        by_label = {score["label"]: score["score"] for score in scores}
        assert list(map(by_label.get, ("no", "perhaps", "yes"))) == pytest.approx(expected)


def test_a_directory_without_a_graph_is_refused(directory):
    pytest.importorskip("onnxruntime")

    with pytest.raises(CheckpointError, match=r"holds no `model.onnx`; .* backend `torch`"):
        load_backend(read_directory(directory), "onnx", "cpu")


def test_a_damaged_graph_is_refused(directory):
    pytest.importorskip("onnxruntime")
    (directory / "model.onnx").write_bytes(b"no graph")

    with pytest.raises(CheckpointError, match=r"model.onnx` cannot be read: "):
        load_backend(read_directory(directory), "onnx", "cpu")


def test_a_graph_of_another_kind_is_refused(directory):
    write_graph(directory, inputs=("ids", "attention_mask", "token_type_ids"))

    with pytest.raises(CheckpointError, match=r"must have the inputs input_ids, .* got ids,"):
        load_backend(read_directory(directory), "onnx", "cpu")


def test_without_onnxruntime_one_sentence_says_how_to_install_it(directory, monkeypatch):
    real = builtins.__import__

    def fail(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)

    with pytest.raises(ConfigError, match=r"pip install 'autoprumux\[onnx\]'"):
        load_backend(read_directory(directory), "onnx", "cpu")


def test_a_device_that_onnxruntime_lacks_is_refused(directory, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    (directory / "model.onnx").touch()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(ConfigError, match="the installed onnxruntime cannot use it"):
        load_backend(read_directory(directory), "onnx", "cuda")


def test_missing_weights_are_refused(directory):
    (directory / backends.WEIGHTS_FILE).unlink()

    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_backend(read_directory(directory), "torch", "cpu")


def test_a_batch_too_large_for_the_device_says_what_to_do(directory, monkeypatch):
    predictor = Predictor(directory, device="cpu")

    def fail(batch):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(predictor.backend.model, "forward", fail)

    with pytest.raises(OutOfMemoryError, match="take a smaller `batch_size`"):
        predictor("the film")
