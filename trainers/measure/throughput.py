"""Sequences per second of a model, interleaved with the dense baseline; see docs/measuring.md."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.allocator import keep_freed_memory
from trainers.config import ThroughputConfig
from trainers.data.encoding import Encoded
from trainers.locks import file_lock
from trainers.models.batch import Batch
from trainers.models.muxed_bert import MuxedBert
from trainers.results import ThroughputResult

LOCK_NAME = "autoprumux-throughput.lock"
"""In the machine's folder of temporary files: two measurements at once would slow each other."""

LOCK_TIMEOUT_S = 600.0
"""Seconds to wait for another measurement, which takes seconds; then one measures beside it."""

MAX_SPREAD = 0.15
"""Largest interquartile range of the baseline's seconds, over their median, of a quiet machine."""

MAX_ROUNDS = 3
"""Measurements of which the calmest is kept; a calm one ends them."""

PAUSE_S = 2.0
"""Seconds between them, for the other work to end."""


def measure_throughput(
    model: MuxedBert,
    baseline: MuxedBert,
    examples: Encoded,
    config: ThroughputConfig,
    *,
    length: int,
    device: torch.device,
) -> ThroughputResult:
    """Time whole forward passes of both models in turn, on inputs that are on the device already.

    Both get the same number of groups of real examples cut or padded to the same length, all
    positions attended to. Tokenising is not timed; multiplexing and demultiplexing are. The
    speed-up of the baseline's own structure is 1 by definition.

    One process of a machine measures at a time. The spread of the baseline, which is always the
    same work, tells whether other work disturbed it: then all is measured again, and what stays
    disturbed is marked.

    Args:
        model: Compacted model of width N.
        baseline: Dense model with N = 1; its weights do not matter.
        examples: Where the token ids come from.
        config: Batch size and repeats.
        length: Tokens in a sequence, at most the model's positions.
        device: Where both models are.
    """
    size = (config.batch_size, length, device)
    passes = [
        folded_pass(m, full_batch(examples, m.shape.num_instances, *size))
        for m in (model, baseline)
    ]
    seconds, is_alone = _calmest(passes, config, device)
    spread = _spread(seconds[1])
    sizes = np.array([[config.batch_size * model.shape.num_instances], [config.batch_size]])
    rates = sizes / seconds  # (2, repeats), sequences per second
    low, median, high = np.quantile(rates[0], (0.25, 0.5, 0.75))
    ratio_low, ratio, ratio_high = np.quantile(rates[0] / rates[1], (0.25, 0.5, 0.75))
    if model.shape == baseline.shape:  # the quartiles then tell how noisy the machine is
        ratio_low, ratio, ratio_high = min(ratio_low, 1.0), 1.0, max(ratio_high, 1.0)
    on_cuda = device.type == "cuda"
    return ThroughputResult(
        throughput=float(median),
        throughput_q1=float(low),
        throughput_q3=float(high),
        baseline_throughput=float(np.median(rates[1])),
        speedup=float(ratio),
        speedup_q1=float(ratio_low),
        speedup_q3=float(ratio_high),
        num_repeats=config.num_repeats,
        batch_size=config.batch_size,
        length=length,
        dtype="float32",
        device=torch.cuda.get_device_name(device) if on_cuda else "cpu",
        num_threads=0 if on_cuda else torch.get_num_threads(),
        baseline_spread=spread,
        is_clean=is_alone and spread <= MAX_SPREAD,
    )


def full_batch(
    examples: Encoded, num_instances: int, num_groups: int, length: int, device: torch.device
) -> Batch:
    """Yield a batch without padding: real token ids, repeated to fill `length` positions."""
    count = num_groups * num_instances
    rows = np.resize(np.arange(len(examples)), count)
    ids = np.stack(
        [np.resize(examples.input_ids[r, : examples.lengths[r]], length) for r in rows]
    ).reshape(num_groups, num_instances, length)
    input_ids = torch.from_numpy(ids)
    return Batch(
        input_ids, torch.ones_like(input_ids, dtype=torch.bool), torch.zeros_like(input_ids)
    ).to(device)


def folded_pass(model: MuxedBert, batch: Batch) -> Callable[[], object]:
    """Yield a pass of `model` over `batch` as it is served, to be timed: embeddings folded."""
    model.eval().fold(batch.input_ids.shape[-1])
    return lambda: model(batch)


def time_interleaved(
    passes: list[Callable[[], object]],
    *,
    num_warmup: int,
    num_repeats: int,
    device: torch.device,
    clock: Callable[[], float] | None = None,
    between: Callable[[], object] | None = None,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Time each callable `num_repeats` times, one after the other in every repeat.

    Args:
        passes: What to time.
        num_warmup: Untimed repeats first.
        num_repeats: Timed repeats.
        device: What to wait for before the clock is read.
        clock: Yields seconds, by default those of the wall; `time.process_time` tells those of
            this process alone.
        between: Called before every pass, untimed; what it raises ends the timing.

    Returns:
        `(len(passes), num_repeats)` seconds.
    """
    keep_freed_memory()
    seconds = np.zeros((len(passes), num_repeats))
    now = clock or time.perf_counter
    with torch.inference_mode():
        for _ in range(num_warmup):
            for run in passes:
                if between:
                    between()
                run()
        for repeat in range(num_repeats):
            for index, run in enumerate(passes):
                if between:
                    between()
                _synchronise(device)
                start = now()
                run()
                _synchronise(device)
                seconds[index, repeat] = now() - start
    return seconds


def _calmest(
    passes: list[Callable[[], object]], config: ThroughputConfig, device: torch.device
) -> tuple[NDArray[np.float64], bool]:
    """Yield the seconds of the calmest round, and whether no other process measured meanwhile."""
    rounds: list[NDArray[np.float64]] = []
    path = Path(tempfile.gettempdir()) / LOCK_NAME
    with file_lock(path, timeout_s=LOCK_TIMEOUT_S) as is_alone:
        while len(rounds) < MAX_ROUNDS:
            if rounds:
                time.sleep(PAUSE_S)
            rounds.append(
                time_interleaved(
                    passes,
                    num_warmup=config.num_warmup,
                    num_repeats=config.num_repeats,
                    device=device,
                )
            )
            if _spread(rounds[-1][1]) <= MAX_SPREAD:
                break
    return min(rounds, key=lambda seconds: _spread(seconds[1])), is_alone


def _spread(seconds: NDArray[np.float64]) -> float:
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return float((high - low) / median)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
