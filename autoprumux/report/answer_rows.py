"""Answers and failures as rows for programs: JSON, and one table as CSV."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoprumux.answers import BudgetAnswer, Interval, MeasuredModel, PredictedModel
from autoprumux.records import StudyRecord, TrialRecord
from autoprumux.report.tables import format_candidate

ANSWER_COLUMNS = (
    "budget",
    "confidence",
    "role",
    "status",
    "num_instances",
    "sparsity",
    "hyperparameters",
    "accuracy",
    "accuracy_loss",
    "accuracy_loss_low",
    "accuracy_loss_high",
    "speed_status",
    "throughput",
    "speedup",
    "speedup_low",
    "speedup_high",
    "chance",
    "is_paired",
    "num_examples",
    "checkpoint",
)
"""`role` is `best`, `closest` (none faster than the baseline meets the budget) or `predicted`."""

FAILURE_COLUMNS = (
    "study",
    "number",
    "num_instances",
    "sparsity",
    "hyperparameters",
    "cause",
    "message",
    "last_accuracy",
)


def answers_to_rows(answers: Sequence[BudgetAnswer]) -> list[dict[str, Any]]:
    """Yield one JSON object per budget; accuracies, losses and budgets are fractions."""
    return [
        {
            "budget": answer.budget,
            "confidence": answer.confidence,
            "is_met": answer.is_met,
            "best": _measured_to_dict(answer.best, answer.budget),
            "closest": _measured_to_dict(answer.closest, answer.budget),
            "predicted": [_predicted_to_dict(model) for model in answer.predicted],
        }
        for answer in answers
    ]


def answers_to_csv(answers: Sequence[BudgetAnswer]) -> str:
    """Yield one line per budget and model; the numbers are those of the JSON rows."""
    return _to_csv(ANSWER_COLUMNS, _flat_answers(answers))


def failed_trials(study: StudyRecord) -> list[TrialRecord]:
    """Yield the trials that failed, in order of their number."""
    return [trial for trial in study.trials if trial.failure is not None]


def failures_to_rows(study: StudyRecord) -> list[dict[str, Any]]:
    """Yield one object per failed trial."""
    return [
        {
            "study": study.name,
            "number": trial.number,
            "num_instances": trial.candidate.num_instances,
            "sparsity": trial.candidate.sparsity,
            "hyperparameters": dict(trial.candidate.hyperparameters),
            "cause": trial.failure.cause,
            "message": trial.failure.message,
            "last_accuracy": trial.failure.last_accuracy,
        }
        for trial in failed_trials(study)
        if trial.failure is not None
    ]


def failures_to_csv(study: StudyRecord) -> str:
    """Yield one line per failed trial."""
    return _to_csv(FAILURE_COLUMNS, failures_to_rows(study))


def format_failures(study: StudyRecord) -> str:
    """Yield the failed trials as text, two lines each."""
    failed = failed_trials(study)
    lines = [f"study {study.name}: {len(failed)} of {len(study.trials)} trials failed"]
    for trial in failed:
        assert trial.failure is not None
        last = trial.failure.last_accuracy
        seen = "" if last is None else f"  last accuracy {100 * last:.1f}"
        cause = trial.failure.cause
        lines.append(
            f"trial {trial.number:>2}  {format_candidate(trial.candidate)}  {cause}{seen}"
        )
        lines.append(f"          {' '.join(trial.failure.message.split())}")
    return "\n".join(lines)


def _measured_to_dict(model: MeasuredModel | None, budget: float) -> dict[str, Any] | None:
    if model is None:
        return None
    measurement = model.measurement
    return {
        "status": "verified",
        "num_instances": model.candidate.num_instances,
        "sparsity": model.candidate.sparsity,
        "hyperparameters": dict(model.candidate.hyperparameters),
        "sparsity_achieved": measurement.sparsity,
        "accuracy": measurement.accuracy,
        "accuracy_loss": model.accuracy_loss,
        "accuracy_loss_interval": _pair(model.interval),
        "speed_status": model.speed_mark,
        "throughput": measurement.throughput.throughput,
        "speedup": measurement.speedup,
        "speedup_quartiles": [
            measurement.throughput.speedup_q1,
            measurement.throughput.speedup_q3,
        ],
        "is_clean": measurement.throughput.is_clean,
        "chance": model.chance_within(budget),
        "is_paired": model.is_paired,
        "num_examples": measurement.num_examples,
        "checkpoint": measurement.checkpoint,
    }


def _predicted_to_dict(model: PredictedModel) -> dict[str, Any]:
    return {
        "status": model.mark,
        "num_instances": model.candidate.num_instances,
        "sparsity": model.candidate.sparsity,
        "hyperparameters": dict(model.candidate.hyperparameters),
        "accuracy": model.accuracy,
        "accuracy_loss": model.accuracy_loss,
        "accuracy_loss_interval": _pair(model.interval),
        "speedup": model.speedup,
        "speed_status": "verified" if model.is_speed_measured else "predicted",
        "speedup_interval": _pair(model.speedup_interval),
        "chance": model.chance,
        "chance_best": model.chance_best,
        "is_paired": model.is_paired,
        "is_extrapolated": model.is_extrapolated,
    }


def _pair(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def _flat_answers(answers: Sequence[BudgetAnswer]) -> Iterator[dict[str, Any]]:
    for row in answers_to_rows(answers):
        models = [("best", row["best"]), ("closest", row["closest"])]
        models += [("predicted", model) for model in row["predicted"]]
        for role, model in models:
            if model is not None:
                yield _flat_model(model) | {
                    "budget": row["budget"],
                    "confidence": row["confidence"],
                    "role": role,
                }


def _flat_model(model: Mapping[str, Any]) -> dict[str, Any]:
    low, high = model["accuracy_loss_interval"]
    speeds = model.get("speedup_interval") or model["speedup_quartiles"]
    return {
        **{name: model[name] for name in ANSWER_COLUMNS if name in model},
        "accuracy_loss_low": low,
        "accuracy_loss_high": high,
        "speedup_low": speeds[0],
        "speedup_high": speeds[1],
    }


def _to_csv(columns: Sequence[str], rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"hyperparameters": json.dumps(row["hyperparameters"])} for row in rows)
    return text.getvalue().rstrip("\n")
