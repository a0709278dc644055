"""Optuna's trials as our records; the one place that knows their form.

Optuna keeps the candidate in the parameters `num_instances` and `sparsity` and the objectives
accuracy and speed-up, both maximised. Whatever else a measurement holds is in our tables only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoprumux.records import (
    Candidate,
    Failure,
    Measurement,
    Structure,
    StudyRecord,
    Throughput,
    TrialRecord,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

NUM_INSTANCES = "num_instances"
"""Optuna's name of the mux width N."""

SPARSITY = "sparsity"
"""Optuna's name of the sparsity s."""

METRIC_NAMES = ("accuracy", "speedup")
"""Optuna's objectives in order, both maximised."""

CONSTRAINTS = "constraints"
"""System attribute that optuna-dashboard reads: a list, not what `Trial.set_constraint` writes."""

MEETS_BUDGET = "meets_loosest_budget"
"""User attribute beside it, for the table of trials."""

_TIE = 1e-9
"""As in `autoprumux.answers`: a loss on the border of a budget is within it."""
_NUM_EXAMPLES = 1000
"""Stand-in for the unknown size of a validation set: accuracies known to about a point."""


def candidate_of(trial: "FrozenTrial") -> Candidate | None:
    """Yield the cell (N, s) of an Optuna trial, or None while it has none."""
    return _candidate(trial.params)


def objectives_of(measurement: Measurement) -> list[float]:
    """Yield the values that Optuna keeps of a measurement, in the order of its directions."""
    return [measurement.accuracy, measurement.speedup]


def constraints_of(loss: float, budgets: Sequence[float]) -> list[float]:
    """Yield how far an accuracy loss exceeds the loosest budget; at most 0 if it is within it."""
    excess = loss - max(budgets)
    return [excess if excess > _TIE else min(excess, 0.0)]


def record_of(
    trial: "FrozenTrial",
    find: Callable[["FrozenTrial"], Candidate | None] = candidate_of,
) -> TrialRecord | None:
    """Yield what an Optuna trial alone tells of itself, or None if it has no candidate.

    A measurement then knows accuracy and speed-up; what Optuna has no place for is empty, and
    pruned trials and values that cannot be an accuracy and a speed-up count as failures.

    Args:
        trial: Optuna's.
        find: Yields the candidate of a trial; by default its cell (N, s).
    """
    candidate = find(trial)
    if candidate is None:
        return None
    values = trial.values
    if not trial.state.is_finished():
        return TrialRecord(number=trial.number, candidate=candidate, state="running")
    if trial.state.name == "COMPLETE" and _are_objectives(values):
        measurement = _bare_measurement(candidate, values, trial)
        return TrialRecord(
            number=trial.number, candidate=candidate, state="complete", measurement=measurement
        )
    failure = Failure(cause="error", message=f"Optuna's state is {trial.state.name}.")
    return TrialRecord(number=trial.number, candidate=candidate, state="failed", failure=failure)


def read_study(
    study: "Study", find: Callable[["FrozenTrial"], Candidate | None] = candidate_of
) -> StudyRecord:
    """Yield a study as Optuna alone tells it; see `record_of`.

    It is for a sampler without our tables.
    """
    records = (record_of(trial, find) for trial in study.get_trials(deepcopy=False))
    return StudyRecord(
        name=study.study_name,
        task="",
        config={},
        config_hash="",
        data_fingerprint="",
        seed=0,
        budgets=(),
        trials=tuple(record for record in records if record is not None),
    )


def _candidate(params: Mapping[str, Any]) -> Candidate | None:
    if NUM_INSTANCES not in params or SPARSITY not in params:
        return None
    return Candidate(int(params[NUM_INSTANCES]), float(params[SPARSITY]))


def _are_objectives(values: Sequence[float] | None) -> bool:
    """Yield whether Optuna's values can be an accuracy and a speed-up."""
    if values is None or len(values) != len(METRIC_NAMES):
        return False
    accuracy, speedup = values
    return 0.0 <= accuracy <= 1.0 and 0.0 < speedup < math.inf


def _bare_measurement(
    candidate: Candidate, values: Sequence[float], trial: "FrozenTrial"
) -> Measurement:
    accuracy, speedup = values
    return Measurement(
        accuracy=accuracy,
        accuracy_std=0.0,
        num_examples=_NUM_EXAMPLES,
        num_compositions=1,
        correctness=b"",
        throughput=_bare_throughput(speedup),
        sparsity=candidate.sparsity,
        structure=Structure(
            hidden_size=0,
            head_counts=(),
            feedforward_sizes=(),
            num_encoder_parameters=0,
            num_parameters=0,
        ),
        phases=(),
        duration_s=trial.duration.total_seconds() if trial.duration else 0.0,
        checkpoint="",
        seed=0,
    )


def _bare_throughput(speedup: float) -> Throughput:
    return Throughput(
        throughput=speedup,
        throughput_q1=speedup,
        throughput_q3=speedup,
        baseline_throughput=1.0,
        speedup=speedup,
        speedup_q1=speedup,
        speedup_q3=speedup,
        num_repeats=0,
        batch_size=0,
        length=0,
        dtype="",
        device="",
        num_threads=0,
    )
