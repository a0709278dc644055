"""Which trial of a study is exported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoprumux.answers import MeasuredModel, answer_budgets, measured_models
from autoprumux.errors import NoBaselineError, NoModelError, UsageError
from autoprumux.records import Candidate, StudyRecord, TrialRecord


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A measured trial, and the budget that it answers."""

    study: StudyRecord
    number: int
    """Of the trial."""
    model: MeasuredModel
    budget: float | None
    """Largest accuracy loss, a fraction; None if the trial was named."""


def choose_by_budget(study: StudyRecord, budgets: Sequence[float]) -> Choice:
    """Yield the trial that `query` answers a budget with: measured, within it, the fastest.

    Args:
        study: With its trials.
        budgets: Exactly one, a fraction.

    Raises:
        UsageError: If there are several budgets.
        NoBaselineError: If the study has no measured dense baseline.
        NoModelError: If no model faster than the baseline is within the budget.
    """
    if len(budgets) > 1:
        shown = [f"{round(100 * budget, 4):g}" for budget in budgets]
        listed = ", ".join(shown if len(shown) < 6 else [*shown[:2], "...", shown[-1]])
        raise UsageError(
            f"An export answers one budget, got {listed} points; choose one of them, such as "
            f"`--budget {shown[-1]}`."
        )
    (budget,) = budgets
    (answer,) = answer_budgets(study, budgets)
    if answer.best is None or not answer.is_met:
        raise NoModelError(_none_meets(study, budget, answer.closest))
    return Choice(
        study=study,
        number=_trial_of(study, answer.best.candidate).number,
        model=answer.best,
        budget=budget,
    )


def choose_by_number(study: StudyRecord, number: int) -> Choice:
    """Yield the trial of a number.

    Raises:
        NoBaselineError: If the study has no measured dense baseline.
        NoModelError: If there is no such trial, or it was not measured.
    """
    if study.baseline is None:
        raise NoBaselineError(_no_baseline(study))
    found = next((trial for trial in study.trials if trial.number == number), None)
    if found is None or found.measurement is None:
        raise NoModelError(_not_measured(study, number, found))
    models = measured_models(study, study.baseline)
    model = next(m for m in models if m.candidate == found.candidate)
    return Choice(study=study, number=number, model=model, budget=None)


def measured_numbers(study: StudyRecord) -> list[int]:
    """Yield the numbers of the trials that have a model."""
    return [trial.number for trial in study.trials if trial.measurement is not None]


def _trial_of(study: StudyRecord, candidate: Candidate) -> TrialRecord:
    measurement = study.measured[candidate]
    return next(trial for trial in study.trials if trial.measurement is measurement)


def _none_meets(study: StudyRecord, budget: float, closest: MeasuredModel | None) -> str:
    start = f"No measured model of study `{study.name}` that is faster than the dense baseline"
    baseline = _trial_of(study, Candidate(1, 0.0)).number
    if closest is None:
        return f"{start} exists; export the baseline itself with `--trial {baseline}`."
    needed = math.ceil(1000 * closest.accuracy_loss - 1e-6) / 10  # rounded up, so it suffices
    return (
        f"{start} loses at most {round(100 * budget, 4):g} points; the closest, "
        f"{closest.candidate}, loses {100 * closest.accuracy_loss:.1f}. Try "
        f"`--budget {needed:g}`, or export the baseline with `--trial {baseline}`."
    )


def _no_baseline(study: StudyRecord) -> str:
    return (
        f"Study `{study.name}` has no measured dense baseline (N=1 s=0.00) yet, so a card could "
        f"tell no loss and no speed-up. Run `autoprumux search --task {study.task}` again."
    )


def _not_measured(study: StudyRecord, number: int, trial: TrialRecord | None) -> str:
    numbers = ", ".join(map(str, measured_numbers(study)))
    if trial is None:
        what = f"Study `{study.name}` has no trial {number}"
    elif trial.failure is not None:
        cause = f"{trial.failure.cause}: {trial.failure.message.strip().rstrip('.')}"
        what = f"Trial {number} ({trial.candidate}) failed ({cause}), so it left no model"
    else:
        what = f"Trial {number} ({trial.candidate}) is not finished, so it has no model yet"
    return f"{what}. Trials with a measured model: {numbers}."
