"""Throughput from structure and N: a law of latency that a few timings calibrate per device.

Symbols: `B` groups, `N` instances, `T` tokens, `D` hidden size and `h`, `f` heads and feed-forward
units of a layer, all as they remain; `E` the dense hidden size; `d` the size of a head; `Q`
positions that a layer computes (all, but only the first of the text from the last attention on).

A batch takes a sum of six terms, each a non-negative coefficient times what has to be done:

    products      multiplications of attention and feed-forward matrices and of attention itself
    passes        numbers that attention, activations, residuals and norms read and write
    ragged        those of states whose size is no whole number of vector registers
    calls         sub-layers that remain, whatever their size
    embedding     states that embedding makes
    instances     what N sequences cost: look-ups, demultiplexer or pooler, classifier

Each is divided by its value for the dense model with N = 10, so that coefficients are about shares
of the dense baseline's time. `B` scales all of them alike and `T` is fixed by the profile, so both
are left to the coefficients. Speed does not depend on the values of weights, so the timings
are of untrained models. What pruning leaves are small matrices, which processors multiply at
nearly the pace at which they read them: passes are worth as much as products.

The baseline is the unit of all times and takes no part in the fit: its large matrices are
multiplied at another pace than those that pruning leaves, a tenth faster to a third slower by
processor and threads, which is no term of the law. What it deviates from the law by fades out
with the distance from its multiplications.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.errors import UsageError
from autoprumux.records import Calibration, EncoderFacts, EncoderShape, ShapeTiming
from autoprumux.surrogates.base import Prediction

Array = NDArray[np.float64]

MAX_TIMINGS = 10
"""Models that a calibration times."""

_STEP = 8
"""Numbers that a processor computes together; outputs are filled up to a whole number of these."""
_GELU_PASSES = 3.0
"""What the activation of a feed-forward unit costs, in numbers that are read or written."""
TYPICAL = (0.57, 0.45, 0.2, 0.05, 0.03, 0.07)
"""Coefficients seen on CPUs, `(6,)`."""
_TYPICAL_WEIGHT = 0.1
"""What a timing may miss the law by, over what a device's coefficients miss the typical ones by,
both relative: they tell where timings do not."""
_LAW_STD, _LAW_WEIGHT = 0.05, 3.0
"""Misfit of the law in log seconds before any timing, and how many timings that counts as."""
_BASELINE_REACH = 0.3
"""Distance in log multiplications over which the baseline's deviation from the law fades out: met
by dense models of other widths, not by pruned ones."""


class StructureLatency:
    """Predicts log speed-ups of shapes from the timings of a few others.

    Args:
        encoder: What shapes have in common.
        length: Tokens in a sequence.
        coefficients: Of the six terms, shares of the dense baseline's time.
        log_std: Misfit in log seconds.
    """

    def __init__(
        self,
        encoder: EncoderFacts,
        length: int,
        coefficients: Sequence[float],
        log_std: float,
    ) -> None:
        self._encoder, self._length = encoder, length
        self.coefficients = tuple(float(c) for c in coefficients)
        self.log_std = log_std

    @classmethod
    def fitted(
        cls, encoder: EncoderFacts, length: int, timings: Sequence[ShapeTiming]
    ) -> "StructureLatency":
        """Fit the law to timings by non-negative least squares of relative errors.

        A few timings do not tell all six coefficients, so the typical ones are a weak prior.

        The baseline's own timing is not fitted. The misfit is that of timings left out in turn,
        shrunk towards a usual one.

        Raises:
            UsageError: If there are fewer than three timings beside the baseline's or one is not
                positive.
        """
        baseline = dense_shape(encoder, 1)
        fitted = [timing for timing in timings if timing.shape != baseline]
        shares = np.array([timing.share for timing in fitted])
        if len(shares) < 3 or not np.all(np.isfinite(shares) & (shares > 0)):
            raise UsageError(
                "A calibration needs at least three positive timings beside the baseline's, got "
                f"{shares.tolist()}."
            )
        relative = relative_terms(encoder, length, [timing.shape for timing in fitted], shares)
        coefficients = _non_negative(relative)
        left_out = []
        for index in range(len(shares)):
            others = np.delete(relative, index, axis=0)
            predicted = float(relative[index] @ _non_negative(others))
            left_out.append(math.log(max(predicted, 0.1)))
        square = float(np.square(left_out).sum()) + _LAW_WEIGHT * _LAW_STD**2
        log_std = math.sqrt(square / (len(left_out) + _LAW_WEIGHT))
        return cls(encoder, length, coefficients.tolist(), log_std)

    @classmethod
    def stored(cls, calibration: Calibration, length: int) -> "StructureLatency":
        """Fit the law to the timings of a stored calibration, which may be of an older law."""
        return cls.fitted(calibration.encoder, length, calibration.timings)

    def shares(self, shapes: Sequence[EncoderShape]) -> Array:
        """Seconds of a batch over the dense baseline's, `(K,)`."""
        coefficients = np.array(self.coefficients)
        terms = _all_terms(self._encoder, self._length, shapes)
        baseline = _all_terms(self._encoder, self._length, [dense_shape(self._encoder, 1)])
        # without encoder layers there is nothing to multiply
        products = np.maximum(terms[:, 0] / baseline[:, 0], np.finfo(np.float64).tiny)
        nearness = np.exp(-0.5 * np.square(np.log(products) / _BASELINE_REACH))
        deviation = -nearness * np.log(baseline @ coefficients)
        return np.asarray(terms @ coefficients * np.exp(deviation), dtype=np.float64)

    def predict(self, shapes: Sequence[EncoderShape]) -> list[Prediction]:
        """Predict log speed-ups; that of the dense baseline is 0 by definition."""
        baseline = dense_shape(self._encoder, 1)
        return [
            Prediction(0.0, 0.0)
            if shape == baseline
            else Prediction(math.log(shape.num_instances / share), self.log_std)
            for shape, share in zip(shapes, self.shares(shapes), strict=True)
        ]


def relative_terms(
    encoder: EncoderFacts, length: int, shapes: Sequence[EncoderShape], shares: Array
) -> Array:
    """Yield `(K, 6)` terms over `(K,)` shares: times the coefficients, it should be 1."""
    return _all_terms(encoder, length, shapes) / shares[:, None]


def dense_shape(encoder: EncoderFacts, num_instances: int) -> EncoderShape:
    """Yield the shape of which nothing is pruned."""
    return EncoderShape(
        num_instances,
        encoder.dense_hidden_size,
        (encoder.dense_num_heads,) * encoder.num_layers,
        (encoder.dense_feedforward_size,) * encoder.num_layers,
    )


def sparsity_of(encoder: EncoderFacts, shape: EncoderShape) -> float:
    """Yield the share of the dense encoder's matrices that is gone."""

    def weights(of: EncoderShape) -> int:
        heads, units = sum(of.head_counts), sum(of.feedforward_sizes)
        return of.hidden_size * (4 * encoder.head_size * heads + 2 * units)

    return 1.0 - weights(shape) / weights(dense_shape(encoder, 1))


def _all_terms(encoder: EncoderFacts, length: int, shapes: Sequence[EncoderShape]) -> Array:
    """Yield the six terms of each shape over those of the dense model of N = 10, `(K, 6)`."""
    scale = np.array(_terms(encoder, length, dense_shape(encoder, 10)))
    scale[2] = scale[1]  # a dense model may have no ragged states
    terms = np.array([_terms(encoder, length, shape) for shape in shapes])
    return np.asarray(terms / scale, dtype=np.float64)


def _terms(encoder: EncoderFacts, length: int, shape: EncoderShape) -> list[float]:
    num_instances, hidden = shape.num_instances, shape.hidden_size
    has_prefix = encoder.demultiplexer == "index_prefix" and num_instances > 1
    num_read = num_instances + 1 if has_prefix else 1
    positions = length + (num_instances if has_prefix else 0)
    attending = [layer for layer, heads in enumerate(shape.head_counts) if heads]
    last = attending[-1] if attending else 0
    states, inner, calls, products = 2.0 * positions * hidden, 0.0, 0.0, 0.0
    sizes = zip(shape.head_counts, shape.feedforward_sizes, strict=True)
    for layer, (heads, units) in enumerate(sizes):
        computed = positions if layer < last else num_read
        if heads:
            width = heads * encoder.head_size
            products += hidden * width * (computed + 2.0 * positions)  # queries, keys, values
            products += computed * width * (_whole(hidden) + 2.0 * positions)  # output, attention
            inner += 2.0 * width * (computed + positions) + heads * computed * positions
            states += (2.0 * computed + positions) * hidden
            calls += 1.0
        if units:
            products += 2.0 * computed * hidden * _whole(units)
            inner += _GELU_PASSES * computed * units
            states += 2.0 * computed * hidden
            calls += 1.0
    embedding = positions * hidden + _multiplexing(encoder, num_instances, positions, hidden)
    instances = _unmixing(encoder, num_instances, hidden)
    ragged = states if hidden % _STEP else 0.0
    return [products, inner + states, ragged, calls, embedding, instances]


def _whole(side: int) -> int:
    return -(-side // _STEP) * _STEP


def _multiplexing(encoder: EncoderFacts, num_instances: int, positions: int, hidden: int) -> float:
    """Count what multiplexing adds to one look-up in tables, which hold what a key multiplies."""
    if num_instances == 1 or encoder.multiplexer != "contextual":
        return 0.0
    inner = 4 * encoder.head_size * encoder.dense_num_heads
    inner += 2 * encoder.dense_feedforward_size  # two dense layers over all sequences
    return num_instances * positions * hidden * (6.0 + 2.0 * inner / 100.0)


def _unmixing(encoder: EncoderFacts, num_instances: int, hidden: int) -> float:
    dense = encoder.dense_hidden_size
    if num_instances == 1:
        return 1.0 * hidden * dense
    layers = max(encoder.num_demux_layers - 1, 0)
    return hidden * dense + num_instances * dense * (layers * dense + 8.0)


def _non_negative(relative: Array) -> Array:
    """Fit `(6,)` coefficients to `(K, 6)` relative terms, with the typical ones as a prior."""
    from scipy.optimize import nnls  # slow to import, and few answers need it

    solve: Callable[..., tuple[Array, float]] = nnls
    prior = _TYPICAL_WEIGHT * np.diag(1.0 / np.array(TYPICAL))
    aims = np.append(np.ones(len(relative)), np.full(len(prior), _TYPICAL_WEIGHT))
    found, _ = solve(np.vstack([relative, prior]), aims)
    return np.asarray(found, dtype=np.float64)
