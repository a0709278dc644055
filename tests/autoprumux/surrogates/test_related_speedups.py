"""Speed-ups of other tasks: what all share, and how far a task may be off."""

import math
from dataclasses import replace

import numpy as np
import pytest

from autoprumux.records import Candidate
from autoprumux.surrogates.performance import PerformanceModel
from autoprumux.surrogates.related import Others, OtherStudy
from autoprumux.surrogates.related_speedups import OtherSpeedups

DENSE, SPARSE = Candidate(5, 0.0), Candidate(5, 0.95)
FAR = Candidate(1, 0.1)


def test_what_studies_share_is_their_mean_and_the_baseline_is_left_out():
    others = OtherSpeedups(
        [{Candidate(1, 0.0): 0.0, DENSE: 1.5, SPARSE: 3.0}, {DENSE: 1.7}, {Candidate(1, 0.0): 0.0}]
    )

    assert others.means == {DENSE: pytest.approx(1.6), SPARSE: pytest.approx(3.0)}


def test_studies_that_differ_at_high_sparsity_say_so_there_alone():
    others = OtherSpeedups([{DENSE: 1.60, SPARSE: 2.5}, {DENSE: 1.61, SPARSE: 3.5}])

    dense, sparse = others.stds([DENSE, SPARSE])

    assert dense < 0.15
    assert sparse > 0.35


def test_neighbours_of_what_was_compared_are_as_rough_and_what_is_far_is_typical():
    others = OtherSpeedups([{SPARSE: 2.5}, {SPARSE: 3.5}])

    near, far = others.stds([Candidate(5, 0.94), FAR])

    assert near == pytest.approx(others.stds([SPARSE])[0], rel=0.1)
    assert far < near / 3


def test_one_study_alone_is_taken_to_differ_as_tasks_usually_do():
    stds = OtherSpeedups([{DENSE: 1.5, SPARSE: 3.0}]).stds([DENSE, SPARSE, FAR])

    assert stds == pytest.approx([0.08] * 3)


def test_studies_that_agree_to_the_last_digit_are_not_believed_so():
    same = [{DENSE: 1.5, SPARSE: 3.0}] * 50

    assert OtherSpeedups(same).stds([DENSE, SPARSE]) == pytest.approx([0.03] * 2)


def test_the_mean_of_more_studies_is_surer():
    two = OtherSpeedups([{DENSE: 1.4}, {DENSE: 1.6}]).errors
    eight = OtherSpeedups([{DENSE: 1.4}, {DENSE: 1.6}] * 4).errors

    assert eight[DENSE] < 0.6 * two[DENSE]


def test_where_no_study_tells_speeds_nothing_is_added():
    nothing = OtherSpeedups([{}, {Candidate(1, 0.0): 0.0}])

    assert nothing.means == nothing.errors == {}
    assert np.array_equal(nothing.stds([DENSE, SPARSE]), [0.0, 0.0])


def test_however_much_is_measured_a_task_is_off_by_what_tasks_differ(demo_measurement):
    """A grid without one cell: its neighbours do not tell which shape pruning leaves there."""
    grid = [Candidate(n, s) for n in (1, 2, 5) for s in (0.0, 0.6, 0.8, 0.9, 0.95)]
    logs = {c: math.log(c.num_instances * (1 + 4 * c.sparsity)) for c in grid}
    studies = [
        OtherStudy(
            name=str(shift),
            losses={c: 0.01 for c in grid if not c.is_baseline},
            noise_std=0.005,
            log_speedups={c: value + shift * c.sparsity**4 for c, value in logs.items()},
        )
        for shift in (-0.3, 0.3)
    ]
    asked = Candidate(5, 0.9)
    measured = {c: demo_measurement(c) for c in grid if c != asked}
    for c, found in measured.items():
        timed = replace(found.throughput, speedup=math.exp(logs[c]))
        measured[c] = replace(found, throughput=timed)
    others = Others(studies)

    (prediction,) = PerformanceModel.from_measured(measured, {}, grid, others=others).predict(
        [asked]
    )
    (alone,) = PerformanceModel.from_measured(measured, {}, grid).predict([asked])

    assert prediction.log_speedup_std > others.speedups.stds([asked])[0] > 0.2
    assert alone.log_speedup_std < 0.1
    assert prediction.speedup == pytest.approx(math.exp(logs[asked]), rel=0.1)
