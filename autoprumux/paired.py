"""Comparison of measured models with the dense baseline, example by example."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Measurement

_BLOCK = 256
"""Models whose bits are unpacked together: a few MiB at a time."""


def paired_stds(models: Sequence[Measurement], baseline: Measurement) -> list[float | None]:
    """Yield standard errors of the mean differences to the baseline, example by example.

    None where a model was not scored on the baseline's examples. With half an example added to
    each cell of the two-by-two table (Agresti and Min, 2005), so that two models that agree on
    every example don't count as equal beyond doubt.
    """
    stds: list[float | None] = [None] * len(models)
    base = _right_shares([baseline])
    if base is None:
        return stds
    alike: dict[tuple[int, int, int], list[int]] = {}
    for place, model in enumerate(models):
        if model.num_examples == baseline.num_examples:
            key = (model.num_compositions, model.num_examples, len(model.correctness))
            alike.setdefault(key, []).append(place)
    for places in alike.values():
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            own = _right_shares([models[place] for place in block])
            if own is not None:
                for place, std in zip(block, _standard_errors(base - own), strict=True):
                    stds[place] = std
    return stds


def _right_shares(models: Sequence[Measurement]) -> NDArray[np.float64] | None:
    """`(K, examples)`: the share of compositions in which each was right; None without the bits.

    The `K` models have equally many compositions, examples and bytes.
    """
    num_compositions, num_examples = models[0].num_compositions, models[0].num_examples
    num = num_compositions * num_examples
    if num == 0 or len(models[0].correctness) * 8 < num:
        return None
    packed = np.frombuffer(b"".join(m.correctness for m in models), dtype=np.uint8)
    bits = np.unpackbits(packed.reshape(len(models), -1), axis=1, count=num)
    by_composition = bits.reshape(len(models), num_compositions, num_examples)
    return np.asarray(by_composition.mean(axis=1), dtype=np.float64)


def _standard_errors(differences: NDArray[np.float64]) -> list[float]:
    """Of the means of the rows of `(K, examples)`."""
    num = differences.shape[1] + 2
    means = differences.sum(axis=1) / num
    squares = (np.einsum("ke,ke->k", differences, differences) + 1.0) / num
    errors: list[float] = np.sqrt((squares - means**2) / num).tolist()
    return errors


def accuracy_std(measurement: Measurement) -> float:
    """Yield the binomial standard error of an accuracy."""
    share = min(max(measurement.accuracy, 0.0), 1.0)
    return math.sqrt(share * (1.0 - share) / max(measurement.num_examples, 1))
