"""Ranges of what comes from a database or a file that another may have written."""

from autoprumux.config import MAX_WIDTH
from autoprumux.records import Candidate, Measurement, Throughput

MAX_SPEED = 1e15
"""Sequences per second, and times the dense baseline: beyond every machine."""


def check_candidate(num_instances: object, sparsity: object) -> Candidate:
    """Yield the candidate of these values.

    Raises:
        ValueError: If they are outside their ranges.
    """
    if (
        not isinstance(num_instances, int)
        or isinstance(num_instances, bool)
        or not 1 <= num_instances <= MAX_WIDTH
    ):
        raise ValueError(
            f"`num_instances` must be in 1 to {MAX_WIDTH}, got {f'{num_instances!r:.80}'}"
        )
    if (
        not isinstance(sparsity, int | float)
        or isinstance(sparsity, bool)
        or not 0 <= sparsity < 1
    ):
        raise ValueError(f"`sparsity` must be in [0, 1), got {f'{sparsity!r:.80}'}")
    return Candidate(num_instances, sparsity)


def check_measurement(measurement: Measurement) -> Measurement:
    """Yield a measurement whose numbers are in their ranges.

    Raises:
        ValueError: With the first that is not.
    """
    _require(0 <= measurement.accuracy <= 1, measurement, "accuracy", "in [0, 1]")
    _require(0 <= measurement.sparsity <= 1, measurement, "sparsity", "in [0, 1]")
    for name in ("accuracy_std", "num_examples", "num_compositions"):
        _require(getattr(measurement, name) >= 0, measurement, name, "0 or more")
    _require("\0" not in measurement.checkpoint, measurement, "checkpoint", "a path")
    check_throughput(measurement.throughput)
    return measurement


def check_throughput(throughput: Throughput) -> Throughput:
    """Yield speeds that are positive.

    Raises:
        ValueError: With the first that is not.
    """
    for name in ("throughput", "baseline_throughput", "speedup"):
        value = getattr(throughput, name)
        _require(1 / MAX_SPEED <= value <= MAX_SPEED, throughput, name, "positive")
    return throughput


def _require(is_valid: bool, record: Measurement | Throughput, name: str, rule: str) -> None:
    if not is_valid:
        raise ValueError(f"`{name}` must be {rule}, got {getattr(record, name)!r}")
