import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")

import onnx

from trainers.data.tasks import find_task
from trainers.errors import ExportError
from trainers.models.checkpoints import save_model
from trainers.models.compaction import compact
from trainers.models.muxed_bert import MuxedBert
from trainers.serving import onnx as onnx_module
from trainers.serving.export import export_model
from trainers.serving.onnx import (
    FlatClassifier,
    compare,
    open_session,
    run_session,
    write_graph,
)
from trainers.serving.sample import draw_sample

ONE_LAYER = {"head_counts": (4,), "feedforward_sizes": (64,)}  # recording a layer takes a second
WAYS = {
    "compacted": {"num_instances": 1},
    "contextual": {"num_instances": 2, "multiplexer": "contextual", **ONE_LAYER},
    "index_prefix": {
        "num_instances": 3,
        "demultiplexer": "index_prefix",
        "embed_mode": "single_pass",
        **ONE_LAYER,
    },
    "published": {
        "num_instances": 2,
        "demux_norm": "published",
        "num_demux_layers": 3,
        "mask_mode": "none",
        **ONE_LAYER,
    },
}
"""Every word of `[trainer.model]` that changes what is computed."""


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def model(request, make_model, make_masks, tokenizer):
    changes = {"vocab_size": tokenizer.get_vocab_size(), "max_positions": 32, **request.param}
    if "head_counts" in changes:
        return make_model(dtype=torch.float32, **changes)
    return compact(make_model(**changes), make_masks(soft=True)).float().eval()


@pytest.fixture(scope="module")
def sample(model, config, tokenizer):
    return draw_sample(config.data, find_task("qnli"), tokenizer, model.shape.num_instances)


@pytest.fixture(scope="module")
def directory(model, sample, tmp_path_factory):
    """The graph of the model, recorded on a batch without padding."""
    num_rows = 3 * model.shape.num_instances
    assert sample.rows["attention_mask"][:num_rows, : onnx_module.RECORDED_LENGTH].all()
    directory = tmp_path_factory.mktemp("graph")
    write_graph(model, sample, directory)
    return directory


def random_rows(model, num_groups, length):
    generator = torch.Generator().manual_seed(1)
    size = (num_groups * model.shape.num_instances, length)
    ids = torch.randint(5, 100, size, generator=generator)
    lengths = torch.randint(2, length + 1, size[:1], generator=generator)
    mask = (torch.arange(length) < lengths[:, None]).long()
    types = (torch.arange(length) >= lengths[:, None] // 2).long() * mask
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": types}


@pytest.mark.parametrize(("num_groups", "length"), [(1, 2), (1, 32), (2, 9), (9, 20)])
def test_a_graph_computes_what_torch_does_at_any_number_of_rows_and_tokens(
    model, directory, num_groups, length
):
    rows = random_rows(model, num_groups, length)

    found = run_session(open_session(directory, num_threads=1), rows)

    with torch.inference_mode():
        expected = FlatClassifier(model)(**rows).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=0)


def test_a_graph_tells_its_inputs_and_its_width(model, directory):
    session = open_session(directory, num_threads=1)

    assert [(i.name, i.type, len(i.shape)) for i in session.get_inputs()] == [
        ("input_ids", "tensor(int64)", 2),
        ("attention_mask", "tensor(int64)", 2),
        ("token_type_ids", "tensor(int64)", 2),
    ]
    assert all(isinstance(size, str) for i in session.get_inputs() for size in i.shape)
    assert [(o.name, o.type) for o in session.get_outputs()] == [("logits", "tensor(float)")]
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["num_instances"] == str(model.shape.num_instances)


@pytest.fixture
def checkpoint(make_model, tokenizer, tmp_path):
    changes = {"vocab_size": tokenizer.get_vocab_size(), "max_positions": 32}
    changes |= {"labels": ("negative", "positive"), **ONE_LAYER}
    model = make_model(2, dtype=torch.float32, **changes)
    save_model(model, tmp_path / "checkpoint", tokenizer)
    (tmp_path / "out").mkdir()
    return tmp_path / "checkpoint"


def test_an_export_with_a_graph_compares_and_times_it(checkpoint, tmp_path, config):
    said = []

    result = export_model(
        checkpoint, tmp_path / "out", config, with_onnx=True, announce=said.append
    ).onnx

    assert result is not None
    assert result.largest_difference <= 1e-4
    assert result.throughput > 0
    assert result.ratio_q1 <= result.ratio <= result.ratio_q3
    assert (result.batch_size, result.length, result.num_repeats) == (4, 32, 4)
    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert {e.version for e in graph.opset_import if e.domain == ""} == {result.opset}
    assert [path.name for path in (tmp_path / "out").glob("*.data")] == []
    assert len(said) == 4


def test_a_graph_with_other_weights_is_refused(model, sample, directory, config):
    session = open_session(directory, num_threads=1)
    other = MuxedBert(model.shape).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.sequence_head.output.bias += 0.001

    with pytest.raises(ExportError, match=r"differs from torch by 0\.001 in a logit .* 0 of \d+"):
        compare(session, other, sample, config, opset=20)


def test_a_graph_with_other_labels_is_refused(model, sample, directory, config, monkeypatch):
    session = open_session(directory, num_threads=1)
    monkeypatch.setattr(onnx_module, "TOLERANCE", 1e9)
    other = MuxedBert(model.shape).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.sequence_head.output.weight.neg_()

    with pytest.raises(ExportError, match=r"in [1-9]\d* of \d+ labels; export without `--onnx`"):
        compare(session, other, sample, config, opset=20)


@pytest.mark.slow
def test_a_model_too_large_for_one_file_has_its_weights_beside(
    checkpoint, tmp_path, config, monkeypatch
):
    monkeypatch.setattr(onnx_module, "LARGEST_FILE", 1000)

    result = export_model(checkpoint, tmp_path / "out", config, with_onnx=True)

    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").glob("model.onnx*")}
    assert result.onnx is not None
    assert sizes.keys() == {"model.onnx", "model.onnx.data"}
    assert sizes["model.onnx.data"] > 40_000


def test_a_model_that_torch_cannot_record_is_a_sentence(make_model, sample, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise torch.onnx.errors.OnnxExporterError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)

    with pytest.raises(ExportError, match=r"cannot write this model .*: no such operator$"):
        write_graph(make_model(dtype=torch.float32), sample, tmp_path)
