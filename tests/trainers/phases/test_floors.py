from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprumux.study_files import load_study, preset_names
from trainers.models.masks import OPEN_LOG_ALPHA, open_probability
from trainers.phase_config import PruneConfig
from trainers.phases.floors import CLOSED_LOG_ALPHA, num_updates_needed, schedule_mistake

OWN = PruneConfig(num_updates=91, sparsity_warmup=0.5, gate_learning_rate=0.1)
"""The shortest run of its own: 45.5 updates of 0.1 move a gate by 4.55, and 4.54 are needed."""


def test_a_gate_that_starts_open_is_closed_as_often_as_open_after_the_distance_counted_on():
    assert float(open_probability(torch.tensor(OPEN_LOG_ALPHA))) == pytest.approx(0.99, abs=1e-3)
    assert float(open_probability(torch.tensor(CLOSED_LOG_ALPHA))) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, 91),
        ({"gate_learning_rate": 0.01}, 908),
        ({"sparsity_warmup": 0.05}, 908),
        ({"gate_learning_rate": 0.01, "sparsity_warmup": 0.05}, 9078),  # as published
        ({"gate_learning_rate": 0.2, "sparsity_warmup": 1.0}, 23),
    ],
)
def test_a_run_of_its_own_needs_enough_updates_for_an_open_gate_to_close(changes, needed):
    config = replace(OWN, **changes)

    assert num_updates_needed(config, 0.0, 0.6) == needed
    assert schedule_mistake(replace(config, num_updates=needed), 0.6) == ""
    assert schedule_mistake(replace(config, num_updates=needed - 1), 0.6).startswith(
        f"`prune.num_updates` must be at least {needed} for gates to close on the way from a "
        f"sparsity of 0 to 0.6, got {needed - 1}. Raise it, "
    )


@pytest.mark.parametrize(
    ("gates", "needed"), [(OWN.gates, 32), (("heads", "intermediate"), 51), (("hidden",), 51)]
)
def test_a_rung_has_a_floor_of_its_own(gates, needed):
    """From 0.60 to 0.95 gates that share a weight need less than one that has it alone."""
    config = replace(OWN, gates=gates, ladder=(0.6, 0.95))

    assert num_updates_needed(config, 0.6, 0.95) == needed
    assert schedule_mistake(replace(config, rung_updates=needed), 0.95) == ""
    assert schedule_mistake(replace(config, rung_updates=needed - 1), 0.6) == ""
    assert schedule_mistake(replace(config, rung_updates=needed - 1), 0.95).startswith(
        f"`prune.rung_updates` must be at least {needed} for gates to close on the way from a "
        f"sparsity of 0.6 to 0.95, got {needed - 1}."
    )


@given(below=st.floats(0.01, 0.97), step=st.floats(0.001, 0.02), rate=st.floats(0.001, 1))
def test_two_rungs_need_what_one_does_that_goes_as_far(below, step, rate):
    config = replace(OWN, gate_learning_rate=rate)

    middle, end = below + step / 2, below + step
    parts = [num_updates_needed(config, *ends) for ends in ((below, middle), (middle, end))]

    assert 0 <= sum(parts) - num_updates_needed(config, below, end) <= 1


def test_slow_gates_can_be_allowed():
    slow = replace(OWN, num_updates=1, allows_slow_gates=True)

    assert schedule_mistake(slow, 0.95) == ""
    assert schedule_mistake(replace(slow, allows_slow_gates=False), 0.95) != ""


@pytest.mark.parametrize("name", preset_names())
def test_the_schedules_of_all_presets_will_do(name):
    study = load_study(name)

    for sparsity in study.search.sparsities:
        if sparsity > 0:
            assert schedule_mistake(study.trainer.prune, sparsity) == ""
