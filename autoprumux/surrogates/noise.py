"""How far a measured accuracy may be off what training the candidate yields.

Symbols: `p` accuracy, `n` validation examples, `k` compositions of the groups, `v` variance of the
accuracy over compositions. Three things make it vary:

- examples: `p (1 - p) / n` for one composition. A part `v` of it comes from who shares a group,
  and the mean of `k` compositions has only `v / k` of that;
- training: another seed yields another model.

What is known of a trained model has the first alone, what is known of a candidate has both.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprumux.records import Measurement

Array = NDArray[np.float64]

SEED_STD = 0.003
"""Of an accuracy from training seed to training seed: that of the two seeds of the recorded grids
(`studies/recorded`), pooled over the 42 cells that lose less than a point (0.29 points, 0.04 of
them by compositions). Cells that lose more differ by more; curves and `doubt` allow it."""
_LEAST_SHARE = 1e-6
"""Of `p (1 - p)`: nobody is right always."""


def sampling_variance(measurement: Measurement, num_examples: int | None = None) -> float:
    """Variance of a trained model's accuracy by its validation examples and compositions.

    Args:
        measurement: The accuracy, with what it rests on.
        num_examples: Validation examples if the measurement doesn't tell.
    """
    num = measurement.num_examples or num_examples or 1
    binomial = binomial_variance(measurement.accuracy, num)
    composing = measurement.accuracy_std**2
    return max(binomial - composing, 0.0) + composing / max(measurement.num_compositions, 1)


def measurement_variance(measurement: Measurement, num_examples: int | None = None) -> float:
    """Variance of an accuracy around what its candidate yields; see `sampling_variance`."""
    return sampling_variance(measurement, num_examples) + SEED_STD**2


def expected_variances(accuracies: Sequence[float] | Array, num_examples: int) -> Array:
    """Variances `(M,)` of accuracies that are yet to be measured, by one composition each."""
    shares = np.clip(np.asarray(accuracies, dtype=np.float64), 0.0, 1.0)
    return np.asarray(shares * (1.0 - shares) / max(num_examples, 1) + SEED_STD**2)


def binomial_variance(accuracy: float, num_examples: int) -> float:
    """Variance of the share of right answers to so many examples."""
    share = min(max(accuracy, 0.0), 1.0)
    return max(share * (1.0 - share), _LEAST_SHARE) / max(num_examples, 1)
