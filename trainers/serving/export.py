"""A trained checkpoint as a directory for others, compared with the checkpoint before it counts.

R rows in a batch, C classes, N instances.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from trainers.config import TrainerConfig
from trainers.data.tasks import find_task
from trainers.errors import ExportError
from trainers.measure.environment import describe_environment
from trainers.models import hugging_face
from trainers.models.checkpoints import load_model, save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.sources import load_tokenizer
from trainers.models.usage import Usage
from trainers.results import ExportResult, OnnxResult
from trainers.serving.sample import Sample, draw_sample


def export_model(
    checkpoint: Path,
    directory: Path,
    config: TrainerConfig,
    *,
    fingerprint: str | None = None,
    with_onnx: bool = False,
    announce: Callable[[str], None] = lambda _: None,
) -> ExportResult:
    """Write a model directory and compare what it computes with the checkpoint, bit for bit.

    Args:
        checkpoint: Model directory that a training left.
        directory: Empty folder for the export.
        config: Recipe of the training: task, data, and how throughput is measured.
        fingerprint: Of the data that the model was measured on, see `draw_sample`.
        with_onnx: True adds `model.onnx`, compared with torch as well.
        announce: Told what is being done, a few words at a time.

    Raises:
        CheckpointError: If the checkpoint is missing or damaged.
        DataError: If the task is unknown.
        ExportError: If what was written computes something else.
        DiskError: If the disk is full or the folder cannot be written.
    """
    model = load_model(checkpoint)
    tokenizer = load_tokenizer(str(checkpoint))
    task = find_task(config.task)
    usage = Usage(
        task=task.name, text_columns=task.text_columns, max_length=config.data.max_length
    )

    announce("writing weights, configuration and tokenizer")
    save_model(model, directory, tokenizer, usage)
    announce("comparing them with the checkpoint")
    num_instances = model.shape.num_instances
    sample = draw_sample(config.data, task, tokenizer, num_instances, fingerprint)
    with _no_progress_bars():
        _check_tokenizer(directory, tokenizer, sample)
        _check_logits(directory, model, sample)
    onnx = _export_onnx(model, directory, sample, config, announce) if with_onnx else None

    return ExportResult(
        labels=task.labels,
        text_columns=task.text_columns,
        num_sequences=len(sample.texts),
        is_validation=not sample.why_made_up,
        why_made_up=sample.why_made_up,
        environment=describe_environment(torch.device("cpu")),
        onnx=onnx,
    )


def _check_tokenizer(directory: Path, tokenizer: Tokenizer, sample: Sample) -> None:
    """Let transformers encode the sample, cut to the length that the directory names."""
    columns = [list(column) for column in zip(*sample.texts, strict=True)]
    theirs = AutoTokenizer.from_pretrained(directory)
    rows = theirs(*columns, padding=True, truncation=True, return_tensors="np")
    for name, expected in sample.rows.items():
        if not np.array_equal(rows[name], expected.numpy()):
            raise ExportError(
                f"The tokenizer in `{directory}` yields other `{name}` in transformers than in "
                "training; it cannot be exported."
            )


def _check_logits(directory: Path, model: MuxedBert, sample: Sample) -> None:
    """Compare the reloaded model with the checkpoint on every bit."""
    theirs = AutoModelForSequenceClassification.from_pretrained(directory)
    assert isinstance(theirs, hugging_face.MuxedBertForSequenceClassification)
    with torch.no_grad():
        found: Tensor = theirs(**sample.rows).logits  # (R, C)
        expected = model(sample.groups(model.shape.num_instances)).flatten(0, 1)
    if not torch.equal(found, expected):
        distance = float((found - expected).abs().max())
        raise ExportError(
            f"The model written to `{directory}` differs from its checkpoint by {distance:.2g} in "
            "a logit, although both hold the same weights; nothing was exported."
        )


def _export_onnx(
    model: MuxedBert,
    directory: Path,
    sample: Sample,
    config: TrainerConfig,
    announce: Callable[[str], None],
) -> OnnxResult:
    from trainers.serving.onnx import compare, open_session, write_graph  # an extra

    announce("writing the ONNX graph")
    opset = write_graph(model, sample, directory)
    session = open_session(directory)
    announce("comparing it with torch and timing both")
    return compare(session, model, sample, config, opset=opset)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Loading a small model takes no time that a bar would have to fill."""
    was_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            transformers_logging.enable_progress_bar()
