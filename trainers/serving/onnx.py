"""The whole classifier as an ONNX graph, multiplexer and demultiplexer inside.

Inputs `input_ids`, `attention_mask` and `token_type_ids` are int64 `(R, T)`, the output `logits`
is float32 `(R, C)`. R, any multiple of N, and T, up to the positions of the model, are free. Each
N rows that follow one another form a group; the mask is not zero at real tokens.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions
from torch import Tensor, nn

from trainers.config import TrainerConfig
from trainers.errors import DiskError, ExportError
from trainers.measure.throughput import full_batch, time_interleaved
from trainers.models.batch import Batch
from trainers.models.muxed_bert import MuxedBert
from trainers.results import OnnxResult
from trainers.serving.sample import Sample

GRAPH_FILE = "model.onnx"
"""Name inside a model directory."""
DATA_FILE = "model.onnx.data"
"""Weights beside a graph that is too large for one file."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Names of the inputs, in the order of the graph."""
OUTPUT = "logits"
"""Name of the output."""
TOLERANCE = 1e-4
"""Largest distance of a logit from torch's; sums in another order differ by about 1e-6."""
RECORDED_LENGTH = 7
"""Tokens in the sequences that a graph is recorded with; it holds for others too."""
LARGEST_FILE = 1_900_000_000
"""Bytes of weights in one file; the format ends at 2 GiB."""


class FlatClassifier(nn.Module):
    """A `MuxedBert` as a function of flat rows, R of them a multiple of N.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: MuxedBert) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Yield `(R, C)` logits of `(R, T)` inputs."""
        sizes = (-1, self.model.shape.num_instances, input_ids.shape[1])
        batch = Batch(
            input_ids.reshape(sizes),
            attention_mask.reshape(sizes) != 0,
            token_type_ids.reshape(sizes),
        )  # (R, T) -> (R / N, N, T)
        logits: Tensor = self.model(batch).flatten(0, 1)
        return logits


def write_graph(model: MuxedBert, sample: Sample, directory: Path) -> int:
    """Write `model.onnx`, checked against the rules of the format, and yield its opset.

    The opset is the one that the installed exporter is written for.

    Args:
        model: In evaluation mode, on the CPU.
        sample: Rows to record the graph with; it holds for others too.
        directory: Of the exported model.

    Raises:
        ExportError: If torch cannot write the model as a graph.
        DiskError: If the disk is full or the folder cannot be written.
    """
    num_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    path, is_split = directory / GRAPH_FILE, num_bytes > LARGEST_FILE
    with _quiet_exporter():
        program = _record(model, sample)
        if program is None:
            raise ExportError(f"torch {torch.__version__} yields no ONNX graph of this model.")
        program.model.metadata_props.update(_metadata(model))
        try:
            program.save(path, external_data=is_split)
        except OSError as error:
            raise DiskError(f"`{path}` could not be written: {error}.") from error
    onnx.checker.check_model(path)
    return int(program.model.opset_imports[""])


def open_session(directory: Path, num_threads: int | None = None) -> InferenceSession:
    """Open the graph of a directory in onnxruntime, on the CPU.

    Args:
        directory: Of an exported model.
        num_threads: Threads of one operator; None means as many as torch has.
    """
    options = SessionOptions()
    options.intra_op_num_threads = num_threads or torch.get_num_threads()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads rest
    options.log_severity_level = 3  # errors
    path = str(directory / GRAPH_FILE)
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


def compare(
    session: InferenceSession,
    model: MuxedBert,
    sample: Sample,
    config: TrainerConfig,
    *,
    opset: int,
) -> OnnxResult:
    """Compare logits, labels and speed with torch, at several numbers of rows and tokens.

    Args:
        session: From `open_session`.
        model: On the CPU.
        sample: Rows to compare.
        config: How throughput is measured.
        opset: Of the graph.

    Raises:
        ExportError: If a logit differs by more than `TOLERANCE`, or a label does.
    """
    differences = [_difference(session, model, rows) for rows in _cuts(sample, model)]
    return _time(session, model, sample, config, opset=opset, difference=max(differences))


def run_session(session: InferenceSession, rows: dict[str, Tensor]) -> NDArray[np.float32]:
    """Yield the `(R, C)` logits of onnxruntime."""
    feeds = {name: rows[name].numpy() for name in INPUTS}
    (logits,) = session.run([OUTPUT], feeds)
    return np.asarray(logits, dtype=np.float32)


def _record(model: MuxedBert, sample: Sample) -> torch.onnx.ONNXProgram | None:
    num_instances = model.shape.num_instances
    # Several groups and tokens, whatever the sample has: a size of 1 would become a constant.
    length = min(RECORDED_LENGTH, model.shape.max_positions)
    columns = torch.arange(length) % sample.rows["input_ids"].shape[1]
    rows = torch.arange(3 * num_instances) % len(sample.texts)
    recorded = tuple(sample.rows[name][rows][:, columns] for name in INPUTS)
    groups = torch.export.Dim("groups")
    tokens = torch.export.Dim("length", max=model.shape.max_positions)
    free = {0: groups if num_instances == 1 else num_instances * groups, 1: tokens}
    try:
        return torch.onnx.export(
            FlatClassifier(model),
            recorded,
            dynamo=True,
            dynamic_shapes=(free,) * len(INPUTS),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"torch {torch.__version__} cannot write this model as an ONNX graph: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _metadata(model: MuxedBert) -> dict[str, str]:
    """Yield what a service without Python can read nowhere else."""
    shape = model.shape
    return {
        "num_instances": str(shape.num_instances),
        "max_positions": str(shape.max_positions),
        "labels": json.dumps(shape.labels),
    }


def _cuts(sample: Sample, model: MuxedBert) -> Iterator[dict[str, Tensor]]:
    """Yield the sample whole, in one group, and shorter."""
    num_instances, length = model.shape.num_instances, sample.rows["input_ids"].shape[1]
    whole = len(sample.texts)
    for num_rows, num_tokens in (
        (whole, length),
        (num_instances, length),
        (min(5 * num_instances, whole), max(2, length // 2)),
    ):
        yield {name: sample.rows[name][:num_rows, :num_tokens].contiguous() for name in INPUTS}


def _difference(session: InferenceSession, model: MuxedBert, rows: dict[str, Tensor]) -> float:
    with torch.inference_mode():
        expected = FlatClassifier(model)(**rows).numpy()
    found = run_session(session, rows)
    difference = float(np.abs(found - expected).max())
    num_changed = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if not difference <= TOLERANCE or num_changed:
        raise ExportError(
            f"The ONNX graph differs from torch by {difference:.2g} in a logit (at most "
            f"{TOLERANCE:g} is allowed) and in {num_changed} of {len(found)} labels; export "
            "without `--onnx`."
        )
    return difference


def _time(
    session: InferenceSession,
    model: MuxedBert,
    sample: Sample,
    config: TrainerConfig,
    *,
    opset: int,
    difference: float,
) -> OnnxResult:
    """Time both in turn by the protocol of `trainers.measure.throughput`."""
    options, num_instances = config.throughput, model.shape.num_instances
    length = options.length or config.data.max_length
    device = torch.device("cpu")
    batch = full_batch(sample.encoded, num_instances, options.batch_size, length, device)
    model.fold(length)  # as a model in service is
    flat = (batch.input_ids, batch.attention_mask.long(), batch.token_type_ids)
    rows = {name: tensor.flatten(0, 1) for name, tensor in zip(INPUTS, flat, strict=True)}
    seconds = time_interleaved(
        [lambda: model(batch), lambda: run_session(session, rows)],
        num_warmup=options.num_warmup,
        num_repeats=options.num_repeats,
        device=device,
    )
    rates = options.batch_size * num_instances / seconds  # (2, repeats)
    low, ratio, high = np.quantile(rates[1] / rates[0], (0.25, 0.5, 0.75))
    return OnnxResult(
        opset=opset,
        largest_difference=difference,
        torch_throughput=float(np.median(rates[0])),
        throughput=float(np.median(rates[1])),
        ratio=float(ratio),
        ratio_q1=float(low),
        ratio_q3=float(high),
        num_repeats=options.num_repeats,
        batch_size=options.batch_size,
        length=length,
        num_threads=torch.get_num_threads(),
    )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep torch from telling of its own deprecations and of packages that nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
