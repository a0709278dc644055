"""Accuracy on the whole validation set, averaged over compositions of the groups."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.config import AccuracyConfig
from trainers.data.encoding import Encoded
from trainers.data.grouping import group_indices, ungroup
from trainers.measure.batching import make_batch, order_by_length
from trainers.measure.parts import Parts
from trainers.models.batch import Batch
from trainers.models.muxed_bert import MuxedBert
from trainers.results import AccuracyResult

BATCH_SIZE = 64
"""Groups in a batch when the result does not depend on it."""


def predict_logits(
    model: MuxedBert,
    examples: Encoded,
    device: torch.device,
    *,
    seed: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> NDArray[np.float32]:
    """Yield the `(n, C)` logits of every example, in their order; see `predict`, also for errors.

    Faster under `torch.inference_mode`, where products may be rounded in another way.
    """
    model.eval()
    indices, is_real = group_indices(len(examples), model.shape.num_instances, seed=seed)
    order = order_by_length(examples.lengths, indices)  # whole groups, so nothing else changes
    indices, is_real = indices[order], is_real[order]
    logits, parts = [], Parts()
    with torch.no_grad():
        for start in range(0, len(indices), batch_size):
            batch = make_batch(examples, indices[start : start + batch_size], device)
            logits.append(parts.map(len(batch.input_ids), partial(_logits, model, batch)))
    return ungroup(torch.cat(logits).numpy(), indices, is_real, len(examples))


def predict(
    model: MuxedBert,
    examples: Encoded,
    device: torch.device,
    *,
    seed: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> NDArray[np.int64]:
    """Yield the predicted class of every example, in their order.

    Args:
        model: Model in any mode; it is left in evaluation mode.
        examples: `n` encoded sequences.
        device: Where the model is.
        seed: Order in which examples are grouped; none keeps the dataset's.
        batch_size: Groups in a batch.

    Returns:
        `(n,)` class ids; the sequences that fill the last group are dropped again.

    Raises:
        OutOfMemoryError: If not even single groups fit in memory; larger batches are halved.
    """
    logits = predict_logits(model, examples, device, seed=seed, batch_size=batch_size)
    return logits.argmax(axis=-1)


def count_correct(model: MuxedBert, examples: Encoded, device: torch.device) -> int:
    """Yield the number of examples classified rightly, grouped in dataset order."""
    return int((predict(model, examples, device) == examples.labels).sum())


@torch.inference_mode()
def measure_accuracy(
    model: MuxedBert, examples: Encoded, config: AccuracyConfig, *, seed: int, device: torch.device
) -> AccuracyResult:
    """Score every example once per composition; no example is dropped.

    Args:
        model: Model to score.
        examples: The whole validation set, with labels.
        config: Number of compositions and batch size.
        seed: Decides the compositions.
        device: Where the model is.

    Raises:
        OutOfMemoryError: See `predict`.
    """
    num_compositions = 1 if model.shape.num_instances == 1 else config.num_compositions
    rows = [
        predict(model, examples, device, seed=seed + k, batch_size=config.batch_size)
        == examples.labels
        for k in range(num_compositions)
    ]
    correct = np.stack(rows)  # (compositions, n)
    return AccuracyResult(
        accuracy=float(correct.mean()),
        accuracy_std=float(correct.mean(axis=1).std(ddof=1)) if num_compositions > 1 else 0.0,
        num_examples=len(examples),
        num_compositions=num_compositions,
        correctness=np.packbits(correct.ravel()).tobytes(),
    )


def _logits(model: MuxedBert, batch: Batch, rows: slice) -> Tensor:
    logits: Tensor = model(batch.rows(rows))
    return logits.float().cpu()  # (B, N, C)
