"""What Optuna is told of a trial beside its values: the columns that optuna-dashboard shows."""

import hashlib
import json
from collections.abc import Mapping

from autoprumux.records import Candidate, Measurement, StudyRecord, TrialRecord
from autoprumux.storage.trials import CONSTRAINTS, MEETS_BUDGET, constraints_of

MINUTES = "minutes"
"""User attribute of an Optuna trial: the minutes it took; of a failed one, in its last process."""


def trial_seed(study_seed: int, candidate: Candidate) -> int:
    """Yield the seed of a candidate's training, the same whenever its turn comes (31 bits)."""
    text = f"{study_seed}/{candidate.num_instances}/{candidate.sparsity:.4f}"
    if candidate.hyperparameters:
        text += f"/{json.dumps(dict(candidate.hyperparameters))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def feasibility_of(
    study: StudyRecord, trial: TrialRecord, baseline: Measurement | None
) -> Mapping[str, object]:
    """Yield by how much a trial exceeds the loosest budget, as optuna-dashboard reads it."""
    if trial.measurement is None or baseline is None:
        return {}
    loss = baseline.accuracy - trial.measurement.accuracy
    return {CONSTRAINTS: constraints_of(loss, study.budgets)}


def attributes_of(
    study: StudyRecord,
    trial: TrialRecord,
    baseline: Measurement | None,
    minutes: float | None = None,
) -> Mapping[str, object]:
    """Yield the user attributes of a trial.

    Args:
        study: The trial's.
        trial: With its outcome.
        baseline: The dense baseline's measurement, if it is there.
        minutes: What a failed trial took, if known; a measurement has its own duration.
    """
    attributes: dict[str, object] = {"seed": trial_seed(study.seed, trial.candidate)}
    if study.data_fingerprint.startswith("builtin:"):
        attributes["data"] = "built-in"
    if trial.failure is not None:
        attributes |= {"failure": trial.failure.cause, "message": trial.failure.message[:500]}
        if minutes is not None:
            attributes[MINUTES] = round(minutes, 3)
    if trial.measurement is not None:
        attributes |= {
            "sparsity_achieved": round(trial.measurement.sparsity, 4),
            "throughput": round(trial.measurement.throughput.throughput, 2),
            MINUTES: round(trial.measurement.duration_s / 60, 3),
        }
        if baseline is not None:
            loss = baseline.accuracy - trial.measurement.accuracy
            attributes["accuracy_loss_points"] = round(100 * loss, 3)
            attributes[MEETS_BUDGET] = constraints_of(loss, study.budgets)[0] <= 0
    return attributes
