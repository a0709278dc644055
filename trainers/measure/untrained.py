"""Models and inputs to time without a training: speed does not depend on the values of weights."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.data.encoding import Encoded
from trainers.errors import ConfigError
from trainers.measure.throughput import time_interleaved
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape

NUM_EXAMPLES = 512
"""Random sequences; batches repeat them."""

MIN_ROUNDS, MAX_ROUNDS = 5, 400
"""Timed rounds of `time_rounds`, as many as the time allows. Many: they
average what other machines on the same hardware take from large models and small ones."""


def untrained_model(shape: MuxedBertShape, device: torch.device) -> MuxedBert:
    """Yield a model with new weights, the same every time; torch's generator stays as it is.

    Raises:
        CheckpointError: If the shape, which may come from a stranger's database, cannot be.
    """
    shape.check()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MuxedBert(shape).to(device).eval()


def random_examples(vocab_size: int, length: int) -> Encoded:
    """Yield sequences of `length` random tokens, the same every time."""
    random = np.random.default_rng(0)
    ids = random.integers(0, vocab_size, (NUM_EXAMPLES, length))
    return Encoded(ids, np.full(NUM_EXAMPLES, length), np.zeros_like(ids))


def time_rounds(
    passes: Sequence[Callable[[], object]],
    *,
    limit_s: float,
    device: torch.device,
    between: Callable[[], object] | None = None,
) -> NDArray[np.float64]:
    """Time every callable once per round, in as many rounds as fit into `limit_s` seconds.

    `between` is called before every pass, untimed; what it raises ends the timing.

    Returns:
        `(len(passes), rounds)` seconds, the two rounds that warm up left out.

    Raises:
        ConfigError: If fewer than `MIN_ROUNDS` rounds would fit.
    """
    started = time.perf_counter()
    timed = partial(time_interleaved, list(passes), device=device, between=between)
    warm_up = timed(num_warmup=1, num_repeats=1)
    round_s = float(warm_up.sum())
    left_s = limit_s - (time.perf_counter() - started)
    num_rounds = min(MAX_ROUNDS, int(left_s / round_s))
    if num_rounds < MIN_ROUNDS:
        raise ConfigError(
            f"`throughput.batch_size` is too large to calibrate with: one round of "
            f"{len(passes)} passes takes {round_s:.1f} s, and {MIN_ROUNDS} rounds must fit into "
            f"{limit_s:.0f} s; use a smaller one."
        )
    return timed(num_warmup=0, num_repeats=num_rounds)
