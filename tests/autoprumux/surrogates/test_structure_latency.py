import math
from dataclasses import replace

import numpy as np
import pytest
from small_encoders import ENCODER

from autoprumux.errors import UsageError
from autoprumux.records import EncoderShape, ShapeTiming
from autoprumux.surrogates.calibration_shapes import calibration_shapes
from autoprumux.surrogates.structure_latency import (
    MAX_TIMINGS,
    TYPICAL,
    StructureLatency,
    dense_shape,
    sparsity_of,
)

LENGTH = 32
WIDTHS = (1, 2, 5, 10)
# Of a device: products, passes, ragged, calls, embedding, instances.
TRUE = (0.8, 0.2, 0.1, 0.03, 0.02, 0.03)
CELLS = [
    EncoderShape(1, 128, (4, 4, 4, 3), (268, 0, 0, 0)),
    EncoderShape(1, 123, (3, 2, 2, 1), (94, 19, 4, 10)),
    EncoderShape(1, 128, (0, 2, 0, 0), (25, 0, 0, 0)),
    EncoderShape(2, 125, (3, 4, 4, 4), (157, 56, 72, 13)),
    EncoderShape(2, 109, (1, 0, 0, 1), (17, 31, 4, 0)),
    EncoderShape(5, 127, (3, 3, 1, 2), (332, 161, 169, 0)),
    EncoderShape(5, 128, (0, 1, 0, 0), (85, 3, 1, 0)),
    EncoderShape(10, 128, (4, 3, 0, 0), (321, 274, 47, 138)),
    EncoderShape(10, 128, (1, 0, 0, 0), (89, 0, 0, 0)),
]


def timing(shape: EncoderShape, share: float) -> ShapeTiming:
    return ShapeTiming(
        shape=shape,
        seconds=0.03 * share,
        seconds_q1=0.03 * share,
        seconds_q3=0.03 * share,
        share=share,
    )


def timed_on_a_device(
    shapes: list[EncoderShape], noise: float = 0.0, seed: int = 0
) -> list[ShapeTiming]:
    """Yield timings of a device with the coefficients `TRUE`."""
    law = StructureLatency(ENCODER, LENGTH, TRUE, 0.0)
    factors = np.exp(noise * np.random.default_rng(seed).standard_normal(len(shapes)))
    shares = law.shares(shapes) * factors
    return [timing(shape, float(share)) for shape, share in zip(shapes, shares, strict=True)]


def test_ten_timings_tell_the_speed_of_a_device_unlike_the_typical_one() -> None:
    shapes = calibration_shapes(ENCODER, WIDTHS, LENGTH)

    law = StructureLatency.fitted(ENCODER, LENGTH, timed_on_a_device(shapes))

    assert len(shapes) == MAX_TIMINGS
    expected = np.array([t.share for t in timed_on_a_device(CELLS)])
    assert law.shares(CELLS) == pytest.approx(expected, rel=0.05)
    typical = StructureLatency(ENCODER, LENGTH, TYPICAL, 0.0).shares(CELLS)
    assert np.abs(typical / expected - 1).max() > 0.2


def test_a_typical_device_gets_the_typical_coefficients() -> None:
    shapes = calibration_shapes(ENCODER, WIDTHS, LENGTH)
    law = StructureLatency(ENCODER, LENGTH, TYPICAL, 0.0)
    pruned = [shape for shape in shapes if sparsity_of(ENCODER, shape) > 0.7]
    timings = [timing(s, float(v)) for s, v in zip(pruned, law.shares(pruned), strict=True)]

    fitted = StructureLatency.fitted(ENCODER, LENGTH, timings)

    assert fitted.coefficients == pytest.approx(TYPICAL, rel=0.01)


def test_a_slow_baseline_changes_the_speedups_but_not_what_is_told_of_pruned_models() -> None:
    shapes = calibration_shapes(ENCODER, WIDTHS, LENGTH)
    timings = timed_on_a_device(shapes)
    slow = [timings[0], *(replace(t, share=0.8 * t.share) for t in timings[1:])]

    law, other = (StructureLatency.fitted(ENCODER, LENGTH, t) for t in (timings, slow))

    # In units of a baseline that takes a quarter longer, all pruned models are faster by that.
    assert other.shares(CELLS) == pytest.approx(0.8 * law.shares(CELLS), rel=0.04)
    assert other.shares([dense_shape(ENCODER, 1)]) == pytest.approx([1.0])


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_three_per_cent_in_the_timings_costs_few_cells_more_than_ten(seed: int) -> None:
    shapes = calibration_shapes(ENCODER, WIDTHS, LENGTH)

    law = StructureLatency.fitted(ENCODER, LENGTH, timed_on_a_device(shapes, 0.03, seed))

    errors = law.shares(CELLS) / [t.share for t in timed_on_a_device(CELLS)] - 1
    assert np.abs(errors).max() < 0.10
    assert 0.01 < law.log_std < 0.12


def test_intervals_hold_what_they_promise() -> None:
    inside = []
    for seed in range(40):
        shapes = calibration_shapes(ENCODER, WIDTHS, LENGTH)
        law = StructureLatency.fitted(ENCODER, LENGTH, timed_on_a_device(shapes, 0.05, seed))
        for prediction, cell in zip(law.predict(CELLS), timed_on_a_device(CELLS), strict=True):
            true = math.log(cell.shape.num_instances / cell.share)
            inside.append(abs(true - prediction.mean) < 1.645 * prediction.std)

    assert np.mean(inside) > 0.88


def test_the_dense_baseline_has_a_speedup_of_one_by_definition() -> None:
    law = StructureLatency(ENCODER, LENGTH, TRUE, 0.05)

    (baseline,) = law.predict([dense_shape(ENCODER, 1)])

    assert (baseline.mean, baseline.std) == (0.0, 0.0)


def test_nothing_that_is_removed_makes_a_model_slower() -> None:
    law = StructureLatency(ENCODER, LENGTH, TRUE, 0.05)
    full = EncoderShape(2, 112, (3, 2, 1, 1), (64, 32, 16, 16))
    smaller = [
        replace(full, hidden_size=96),
        replace(full, head_counts=(3, 2, 1, 0)),
        replace(full, head_counts=(2, 2, 1, 1)),
        replace(full, feedforward_sizes=(48, 32, 16, 16)),
        replace(full, feedforward_sizes=(64, 32, 16, 0)),
    ]

    (whole,) = law.shares([full])

    assert (law.shares(smaller) < whole).all()


def test_the_last_layer_is_computed_for_the_first_position_alone() -> None:
    law = StructureLatency(ENCODER, LENGTH, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.05)
    early = EncoderShape(1, 128, (4, 4, 4, 4), (512, 0, 0, 0))
    late = EncoderShape(1, 128, (4, 4, 4, 4), (0, 0, 0, 512))

    at_once, at_last = law.shares([early, late])

    assert at_last < at_once


def test_prefix_positions_lengthen_every_sequence() -> None:
    prefixed = replace(ENCODER, demultiplexer="index_prefix")
    wide = dense_shape(ENCODER, 10)

    (plain,) = StructureLatency(ENCODER, LENGTH, TRUE, 0.0).shares([wide])
    (longer,) = StructureLatency(prefixed, LENGTH, (*TRUE,), 0.0).shares([wide])

    assert longer > 1.0
    assert plain > 1.0


@pytest.mark.parametrize("widths", [(1,), (1, 2), (2, 5), WIDTHS])
def test_shapes_to_time_are_few_distinct_and_begin_with_the_baseline(
    widths: tuple[int, ...],
) -> None:
    shapes = calibration_shapes(ENCODER, widths, LENGTH)

    assert shapes[0] == dense_shape(ENCODER, 1)
    assert 5 <= len(shapes) == len(set(shapes)) <= MAX_TIMINGS
    assert {shape.num_instances for shape in shapes} <= {1, *widths}
    sparsities = [sparsity_of(ENCODER, shape) for shape in shapes]
    assert min(sparsities) == 0.0
    assert max(sparsities) > 0.9


@pytest.mark.parametrize("shares", [[1.0, 0.5], [1.0, 0.5, 0.0], [1.0, 0.5, math.nan]])
def test_timings_that_no_law_can_be_fitted_to_are_refused(shares: list[float]) -> None:
    shapes = calibration_shapes(ENCODER, WIDTHS, LENGTH)
    timings = [timing(shape, share) for shape, share in zip(shapes, shares, strict=False)]

    with pytest.raises(UsageError, match="at least three positive timings"):
        StructureLatency.fitted(ENCODER, LENGTH, timings)
