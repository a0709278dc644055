"""Optuna's storage as optuna-dashboard should see it: feasible is what meets the budgets of now.

Optuna never changes an ended trial, so the constraint that the search stored with it is that of
the budgets which were declared then. Readers of this storage get that of the present ones.
"""

from collections.abc import Callable, Container, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autoprumux.records import Candidate
from autoprumux.storage.optuna_storage import ClosingStorage
from autoprumux.storage.trials import (
    CONSTRAINTS,
    MEETS_BUDGET,
    candidate_of,
    constraints_of,
    record_of,
)


class FeasibilityStorage(ClosingStorage):
    """Optuna's storage with the constraints of the budgets that `budgets_of` tells by study."""

    def __init__(
        self, *arguments: Any, budgets_of: Callable[[str], Sequence[float]], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._budgets_of = budgets_of

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """See `RDBStorage.get_all_trials`, which makes new objects for every call."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        budgets = self._budgets_of(self.get_study_name_from_id(study_id))
        if budgets:
            set_constraints(trials, budgets)
        return trials


def set_constraints(trials: Sequence[FrozenTrial], budgets: Sequence[float]) -> None:
    """Set the constraint of each measured trial to that of `budgets` (fractions)."""
    accuracies = {trial.number: _accuracy(trial) for trial in trials}
    baseline = next(
        (
            accuracies[trial.number]
            for trial in trials
            if candidate_of(trial) == Candidate(1, 0.0) and accuracies[trial.number] is not None
        ),
        None,
    )
    if baseline is None:
        return
    for trial in trials:
        accuracy = accuracies[trial.number]
        if accuracy is not None:
            excess = constraints_of(baseline - accuracy, budgets)
            trial.system_attrs[CONSTRAINTS] = excess
            trial.user_attrs[MEETS_BUDGET] = excess[0] <= 0


def _accuracy(trial: FrozenTrial) -> float | None:
    record = record_of(trial)
    return None if record is None or record.measurement is None else record.measurement.accuracy
