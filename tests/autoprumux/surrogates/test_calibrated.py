"""Speeds that a calibration expects of models whose structure nobody knows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_encoders import ENCODER

from autoprumux.errors import UsageError
from autoprumux.records import Calibration, Candidate, ShapeTiming
from autoprumux.surrogates.calibrated import CalibratedSpeeds, calibrated_speeds
from autoprumux.surrogates.calibration_shapes import calibration_shapes
from autoprumux.surrogates.pruned_shapes import likely_shapes
from autoprumux.surrogates.speedups import SpeedupModel
from autoprumux.surrogates.structure_latency import StructureLatency, dense_shape, sparsity_of

LENGTH, WIDTHS = 32, (1, 2, 5, 10)
DEVICE = StructureLatency(ENCODER, LENGTH, (0.4, 0.2, 0.1, 0.2, 0.02, 0.03), 0.0)
"""Calls cost much, so that pruning gains little."""
GRID = [Candidate(n, s) for n in WIDTHS for s in (0.0, 0.6, 0.7, 0.8, 0.9, 0.95)]


def calibration(law: StructureLatency = DEVICE) -> Calibration:
    shapes = calibration_shapes(ENCODER, WIDTHS, LENGTH)
    timings = tuple(
        ShapeTiming(shape=shape, seconds=share, seconds_q1=share, seconds_q3=share, share=share)
        for shape, share in zip(shapes, law.shares(shapes).tolist(), strict=True)
    )
    return Calibration(
        profile="laptop",
        encoder=ENCODER,
        coefficients=law.coefficients,
        log_std=0.05,
        baseline_throughput=800.0,
        num_repeats=20,
        duration_s=60.0,
        timings=timings,
    )


SPEEDS = CalibratedSpeeds(calibration(), LENGTH)


@settings(max_examples=50, deadline=None)
@given(sparsity=st.floats(0.02, 0.97))
def test_likely_shapes_have_the_sparsity_that_is_asked_for(sparsity: float) -> None:
    shapes = likely_shapes(ENCODER, sparsity)

    dense = dense_shape(ENCODER, 1)
    assert len(shapes) == 32
    for shape in shapes:
        within = (
            0.015 if sparsity > 0.6 else 0.08
        )  # below, whole heads of a small model are given back
        assert sparsity_of(ENCODER, shape) == pytest.approx(sparsity, abs=within)
        assert 0 < shape.hidden_size <= dense.hidden_size
        for sizes, full in (
            (shape.head_counts, dense.head_counts),
            (shape.feedforward_sizes, dense.feedforward_sizes),
        ):
            assert all(0 <= size <= most for size, most in zip(sizes, full, strict=True))


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 12), (24, 1)])
def test_encoders_of_any_depth_and_number_of_heads_have_likely_shapes(layers, heads) -> None:
    encoder = replace(
        ENCODER, num_layers=layers, dense_num_heads=heads, dense_hidden_size=heads * 32
    )

    for sparsity in (0.05, 0.5, 0.9, 0.99):
        shapes = likely_shapes(encoder, sparsity)
        found = [sparsity_of(encoder, shape) for shape in shapes]
        assert np.mean(found) == pytest.approx(sparsity, abs=0.2)
        assert all(len(shape.head_counts) == layers for shape in shapes)


def test_pruned_shapes_differ_as_those_of_trainings_do() -> None:
    shapes = likely_shapes(ENCODER, 0.9)

    speeds = [p.mean for p in DEVICE.predict(shapes)]
    assert len(set(shapes)) > 20
    assert 0.05 < np.std(speeds) < 0.5
    assert likely_shapes(ENCODER, 0.0) == (dense_shape(ENCODER, 1),)


def test_dense_models_have_the_speed_of_their_structure_and_the_baseline_that_of_itself() -> None:
    dense = [Candidate(n, 0.0) for n in WIDTHS]

    expected = SPEEDS.expected(dense)

    fitted = StructureLatency.stored(calibration(), LENGTH)
    known = [p.mean for p in fitted.predict([dense_shape(ENCODER, n) for n in WIDTHS])]
    assert expected == pytest.approx(known)
    assert expected[0] == 0.0


def test_speed_rises_with_both() -> None:
    table = SPEEDS.expected(GRID).reshape(len(WIDTHS), -1)

    assert np.all(np.diff(table, axis=0) > 0)
    assert np.all(np.diff(table, axis=1) > 0)


@given(sparsity=st.floats(0.0, 0.999), num_instances=st.integers(1, 40))
def test_any_sparsity_is_between_its_neighbours(sparsity: float, num_instances: int) -> None:
    steps = [sparsity, min(sparsity + 0.05, 0.999)]

    low, high = SPEEDS.expected([Candidate(num_instances, s) for s in steps])

    dense, most = SPEEDS.expected([Candidate(num_instances, s) for s in (0.0, 0.999)])
    assert dense <= low <= high <= most


def test_hyperparameters_and_another_reading_change_nothing() -> None:
    candidate = Candidate(5, 0.8, (("trainer.finetune.learning_rate", 1e-4),))

    assert SPEEDS.expected([candidate]) == SPEEDS.expected([Candidate(5, 0.8)])
    again = calibrated_speeds(calibration(), LENGTH)
    assert again is calibrated_speeds(calibration(), LENGTH)
    assert again.expected(GRID).tolist() == SPEEDS.expected(GRID).tolist()


def test_before_any_training_the_calibration_is_nearer_than_the_published_law() -> None:
    rng = np.random.default_rng(7)
    asked, true = [], []
    for candidate in GRID[1:]:
        shapes = likely_shapes(ENCODER, candidate.sparsity)
        shape = shapes[rng.integers(len(shapes))]
        share = DEVICE.shares([replace(shape, num_instances=candidate.num_instances)])[0]
        asked.append(candidate)
        true.append(math.log(candidate.num_instances / share))

    told, told_stds = SpeedupModel({}, expected=SPEEDS).predict(asked)
    published, _ = SpeedupModel({}).predict(asked)

    error, before = (float(np.median(np.abs(means - true))) for means in (told, published))
    assert error < 0.1
    assert before > 2 * error
    assert np.mean(np.abs(told - true) < 1.645 * told_stds) > 0.8


def test_what_is_measured_moves_its_neighbours_from_what_was_expected() -> None:
    near, far = Candidate(5, 0.85), Candidate(1, 0.6)
    points = [Candidate(5, 0.8), Candidate(5, 0.9), Candidate(5, 0.0)]
    faster = dict(zip(points, (SPEEDS.expected(points) + 0.3).tolist(), strict=True))

    means, _ = SpeedupModel(faster, expected=SPEEDS).predict([near, far])

    before = SPEEDS.expected([near, far])
    assert 0.2 < means[0] - before[0] < 0.4
    assert abs(means[1] - before[1]) < 0.15


def test_no_more_is_believed_of_a_speed_that_is_no_number() -> None:
    with pytest.raises(UsageError, match="must be finite, got nan"):
        SpeedupModel({Candidate(2, 0.6): math.nan}, expected=SPEEDS)
