"""What optuna-dashboard takes for feasible."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from autoprumux.dashboard.feasibility import FeasibilityStorage, set_constraints
from autoprumux.records import Candidate
from autoprumux.search.space import SearchSpace
from autoprumux.storage.database import open_database
from autoprumux.storage.trials import constraints_of


def states(made, budgets):
    """Yield whether each measured candidate counts as feasible."""
    database = open_database(made.url, must_exist=True)
    make = functools.partial(FeasibilityStorage, budgets_of=lambda _: budgets)
    storage = database.optuna_storage(make)
    trials = storage.get_all_trials(1, states=(TrialState.COMPLETE,))
    database.close()
    found = {}
    for trial in trials:
        (excess,) = trial.system_attrs["constraints"]
        assert trial.user_attrs["meets_loosest_budget"] is (excess <= 0)
        found[trial.params["num_instances"], trial.params["sparsity"]] = excess <= 0
    return found


def test_feasible_is_what_meets_the_loosest_of_the_present_budgets(made):
    stored = states(made, ())
    tight = states(made, (0.005,))
    loose = states(made, (0.005, 0.5))

    assert stored == {
        (1, 0.0): True,
        (1, 0.6): True,
        (1, 0.9): True,
        (2, 0.0): True,
        (2, 0.6): True,
    }
    assert tight[1, 0.0]
    assert not tight[1, 0.9]
    assert all(loose.values())


def test_the_database_keeps_what_was_stored(made):
    before = [
        trial.system_attrs["constraints"]
        for trial in made.study().trials
        if trial.state == TrialState.COMPLETE
    ]

    states(made, (0.0001,))

    after = [
        trial.system_attrs["constraints"]
        for trial in made.study().trials
        if trial.state == TrialState.COMPLETE
    ]
    assert after == before


def test_a_loss_on_the_border_is_within_the_budget():
    assert 0.91 - 0.90 > 0.01
    assert constraints_of(0.91 - 0.90, (0.01,)) == [0.0]
    assert constraints_of(0.0101, (0.01,))[0] == pytest.approx(0.0001)
    assert constraints_of(0.002, (0.01, 0.005))[0] == pytest.approx(-0.008)


@given(
    losses=st.lists(st.floats(0, 1), max_size=5),
    budgets=st.lists(st.floats(0, 0.99), min_size=1, max_size=3),
)
def test_the_sign_tells_whether_the_loosest_budget_is_met(losses, budgets):
    for loss in losses:
        assert (constraints_of(loss, budgets)[0] <= 0) == (loss <= max(budgets) + 1e-9)


def test_without_a_baseline_nothing_is_said():
    space = SearchSpace((Candidate(1, 0.0), Candidate(2, 0.5)))
    parameters = space.encode(Candidate(2, 0.5))
    trial = create_trial(values=[0.8, 2.0], params=parameters, distributions=space.distributions())

    set_constraints([trial], (0.01,))

    assert "constraints" not in trial.system_attrs
