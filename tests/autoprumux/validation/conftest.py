"""Measurements of given accuracy and speed-up."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from autoprumux.records import Candidate, Measurement, StudyRecord, TrialRecord
from autoprumux.validation.grid import MeasuredGrid

Values = Mapping[tuple[int, float], tuple[float, float]]


@pytest.fixture
def make_grid(demo_measurement) -> Callable[[Values], MeasuredGrid]:
    """Factory: `make_grid({(N, s): (accuracy, speedup)})`; the baseline is 0.90 if not given."""

    def measure(accuracy: float, speedup: float) -> Measurement:
        demo = demo_measurement(Candidate(1, 0.0))
        throughput = replace(demo.throughput, speedup=speedup)
        return replace(demo, accuracy=accuracy, throughput=throughput)

    def make(values: Values) -> MeasuredGrid:
        filled = {(1, 0.0): (0.90, 1.0), **values}
        return MeasuredGrid({Candidate(*key): measure(*value) for key, value in filled.items()})

    return make


@pytest.fixture
def make_validated_study(make_grid, demo_study_record) -> Callable[..., StudyRecord]:
    """Factory: `make_validated_study(values, name="grid")`, a study of these measurements."""

    def make(values: Values, **changes: object) -> StudyRecord:
        trials = tuple(
            TrialRecord(number=number, candidate=c, state="complete", measurement=m)
            for number, (c, m) in enumerate(make_grid(values).measured.items())
        )
        return demo_study_record(trials=trials, **changes)

    return make
