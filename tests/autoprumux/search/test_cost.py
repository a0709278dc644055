from collections.abc import Callable
from dataclasses import replace

import pytest

from autoprumux.records import Candidate, Measurement, PhaseRecord
from autoprumux.search.cost import CostModel

BASELINE = Candidate(1, 0.0)

Measure = Callable[..., Measurement]


def timed(measurement: Measurement, rest_s: float = 0.0, **phases: float) -> Measurement:
    records = tuple(
        PhaseRecord(name=name, num_updates=1, duration_s=s, memory_mib=1.0, is_cached=False)
        for name, s in phases.items()
    )
    duration = sum(phases.values()) + rest_s
    return replace(measurement, phases=records, duration_s=duration)


@pytest.fixture
def measured(demo_measurement: Measure) -> dict[Candidate, Measurement]:
    pruned, wide = Candidate(1, 0.9), Candidate(2, 0.0)
    return {
        BASELINE: timed(demo_measurement(BASELINE), 6.0, finetune=60.0),
        pruned: timed(demo_measurement(pruned), 6.0, prune=90.0, finetune_pruned=30.0),
        wide: timed(demo_measurement(wide), 6.0, prime=20.0, finetune=100.0),
    }


def test_trained_width_costs_only_pruning_and_measuring(
    measured: dict[Candidate, Measurement],
) -> None:
    cost = CostModel.from_measured(measured)

    assert cost.minutes(Candidate(1, 0.6)) == pytest.approx((90 + 30 + 6) / 60)


def test_new_width_costs_its_start_too(measured: dict[Candidate, Measurement]) -> None:
    cost = CostModel.from_measured(measured)

    assert cost.minutes(Candidate(5, 0.0)) == pytest.approx((120 + 6) / 60)


def test_cached_width_costs_no_start(measured: dict[Candidate, Measurement]) -> None:
    cost = CostModel.from_measured(measured, frozenset({5}))

    assert cost.minutes(Candidate(5, 0.0)) == pytest.approx(6 / 60)


def test_before_anything_is_pruned_pruning_scales_with_the_baseline(
    demo_measurement: Measure,
) -> None:
    quick = {BASELINE: timed(demo_measurement(BASELINE), finetune=10.0)}
    slow = {BASELINE: timed(demo_measurement(BASELINE), finetune=100.0)}

    minutes = [CostModel.from_measured(m).minutes(Candidate(1, 0.9)) for m in (quick, slow)]

    assert minutes[1] == pytest.approx(10 * minutes[0])


def test_every_candidate_has_a_positive_cost_before_any_measurement() -> None:
    cost = CostModel.from_measured({})

    assert cost.minutes(BASELINE) > 0
    assert cost.minutes(Candidate(10, 0.95)) > cost.minutes(Candidate(10, 0.0))


def test_start_of_a_new_width_is_counted_once_for_all_its_candidates(
    measured: dict[Candidate, Measurement],
) -> None:
    cost = CostModel.from_measured(measured)

    rest = cost.minutes_of_rest([Candidate(5, 0.0), Candidate(5, 0.6)])

    assert rest == pytest.approx((120 + 6 + 120 + 6) / 60)


def test_time_of_a_cached_phase_is_not_subtracted_from_the_rest(demo_measurement: Measure) -> None:
    phase = PhaseRecord(
        name="finetune", num_updates=1, duration_s=60.0, memory_mib=1.0, is_cached=True
    )
    measurement = replace(demo_measurement(BASELINE), phases=(phase,), duration_s=12.0)

    cost = CostModel.from_measured({BASELINE: measurement})

    assert cost.minutes(BASELINE) == pytest.approx(12 / 60)


def test_rungs_below_a_candidate_are_no_cost_of_its_own(demo_measurement: Measure) -> None:
    pruned = Candidate(1, 0.9)
    measurement = timed(demo_measurement(pruned), 6.0, prune=30.0, finetune_pruned=20.0)
    below = replace(measurement.phases[0], duration_s=90.0)
    climbed = replace(measurement, phases=(below, *measurement.phases), duration_s=146.0)

    cost = CostModel.from_measured({pruned: climbed})

    assert cost.minutes(Candidate(1, 0.6)) == pytest.approx((30 + 20 + 6) / 60)
