"""Answers of a search and of a query: text tables and JSON rows."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from autoprumux.answers import (
    BudgetAnswer,
    Interval,
    MeasuredModel,
    PredictedModel,
    candidate_grid,
)
from autoprumux.config import DEFAULT_STORAGE
from autoprumux.hardware import StudyOnHardware
from autoprumux.hyperparameters import stored_values
from autoprumux.records import Candidate, StudyRecord, value_text
from autoprumux.report.answer_rows import answers_to_rows
from autoprumux.report.profiles import format_hardware
from autoprumux.report.tables import (
    BUILTIN_NOTE,
    DISTURBED_NOTE,
    disturbed_mark,
    format_candidate,
    format_duration,
    format_points,
)

ASK_FURTHER = "0:10:0.5"
"""Budgets of the query that a finished search suggests."""
EXPORT_TO = "model"
"""Directory of the export that a finished search suggests."""

_MAX_SENTENCES = 3
"""With more budgets the answers are a table."""
_LEAST_SHOWN = 0.005
"""Smaller chances would be printed as 0.00."""


class Outcome(Protocol):
    """What a search ended with; see `autoprumux.search.runner.SearchOutcome`."""

    @property
    def study(self) -> StudyRecord:
        """Study with its trials."""

    @property
    def answers(self) -> tuple[BudgetAnswer, ...]:
        """One per budget."""

    @property
    def stop_reason(self) -> str:
        """Why no further trial was started."""

    @property
    def num_trained(self) -> int:
        """Finished and failed trials."""

    @property
    def minutes_spent(self) -> float:
        """Minutes of all trials."""

    @property
    def minutes_full_grid(self) -> float:
        """Minutes spent and those predicted for the rest."""

    @property
    def num_candidates(self) -> int:
        """Size of the full grid."""


def format_outcome(outcome: Outcome, storage: str) -> str:
    """Yield the end of a search: answers, all measured models, what it cost and how to go on.

    Args:
        outcome: What the search ended with.
        storage: Database URL as the user gave it; printed only if it can hold no password.
    """
    study = outcome.study
    if len(outcome.answers) > _MAX_SENTENCES:
        answers = [*_answer_table(outcome.answers), *_pairing(outcome.answers, study), ""]
    else:
        answers = [line for a in outcome.answers for line in _answer_sentences(a, study)]
    lines = [
        *answers,
        "Measured models, the fastest first:",
        *_measured_table(study),
        *_failures(study),
        "",
        *([BUILTIN_NOTE] if is_builtin(study) else []),
        f"{_tried(outcome)} in {outcome.minutes_spent:.1f} minutes; the full grid would take "
        f"about {outcome.minutes_full_grid:.1f}.",
        f"Stopped: {outcome.stop_reason}.",
        f"Database: {storage if _is_printable(storage) else 'that of --storage'}. Ask further:",
        f"  {_command('query', study, storage)} --budget {ASK_FURTHER}",
        *_export_advice(outcome, storage),
    ]
    return "\n".join(lines)


def format_answers(
    study: StudyRecord,
    answers: Sequence[BudgetAnswer],
    hardware: StudyOnHardware | None = None,
) -> str:
    """Yield the table of a query, with what it rests on above."""
    baseline = study.baseline
    num_failed = sum(trial.state == "failed" for trial in study.trials)
    lines = [
        f"study {study.name}, task {study.task}: {len(study.by_cell)} of "
        f"{len(candidate_grid(study))} candidates measured, {num_failed} failed"
    ]
    if is_builtin(study):
        lines.append(BUILTIN_NOTE)
    if baseline is not None:
        speed = baseline.throughput
        lines.append(
            f"dense baseline: accuracy {100 * baseline.accuracy:.1f}, {speed.throughput:.0f} seq/s"
            f" ({speed.device}, {speed.dtype}, {speed.length} tokens, batch {speed.batch_size})"
        )
    if hardware is not None:
        lines.append(format_hardware(hardware))
    lines += [*(_rule(answer) for answer in answers[:1]), *_pairing(answers, study)]
    return "\n".join([*lines, "", *_answer_table(answers)])


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Yield a search's end for JSON."""
    return {
        "study": outcome.study.name,
        "task": outcome.study.task,
        "is_builtin_data": is_builtin(outcome.study),
        "stop_reason": outcome.stop_reason,
        "num_trials": outcome.num_trained,
        "num_candidates": outcome.num_candidates,
        "minutes_spent": outcome.minutes_spent,
        "minutes_full_grid": outcome.minutes_full_grid,
        "answers": answers_to_rows(outcome.answers),
    }


def is_setting_searched(study: StudyRecord) -> bool:
    """True if the study searches hyperparameters beside N and s."""
    search = study.config.get("search")
    return isinstance(search, Mapping) and bool(search.get("hyperparameters"))


def is_builtin(study: StudyRecord) -> bool:
    """True if the study's examples are the built-in, made-up ones."""
    return study.data_fingerprint.startswith("builtin:")


def _rule(answer: BudgetAnswer) -> str:
    if answer.confidence is None:
        return (
            "a measured model is within a budget if its measured loss is\n"
            "chance: that the true loss is; best: that it is the fastest within the budget"
        )
    return (
        f"a model is within a budget if the chance that its true loss is within it is at least "
        f"{answer.confidence:g}"
    )


def _paired_on(model: MeasuredModel) -> str:
    if model.is_paired:
        return f"paired on {model.measurement.num_examples:,} examples"
    return "not paired"


def _pairing(answers: Sequence[BudgetAnswer], study: StudyRecord) -> Iterator[str]:
    """Yield on what the intervals and chances of the verified models rest."""
    measured = [m for a in answers for m in (a.best, a.closest) if m is not None]
    shown = {m.candidate: m.is_paired for m in measured if not m.candidate.is_baseline}
    others = (m for a in answers for m in a.predicted if not m.candidate.is_baseline)
    shown |= {m.candidate: m.is_paired for m in others if m.is_paired is not None}
    unpaired = [str(candidate) for candidate, is_paired in shown.items() if not is_paired]
    if len(unpaired) < len(shown) and study.baseline is not None:
        num_examples = study.baseline.num_examples
        yield f"losses of verified models: paired test on {num_examples:,} examples"
    if unpaired:
        more = f" and {len(unpaired) - 3} more" if len(unpaired) > 3 else ""
        yield f"not paired, so with wider intervals: {', '.join(unpaired[:3])}{more}"


def _tried(outcome: Outcome) -> str:
    """Yield how much was tried; of a cell (N, s) several settings may have been."""
    cells = len({t.candidate.cell for t in outcome.study.trials if t.state != "running"})
    if cells == outcome.num_trained or not is_setting_searched(outcome.study):
        return f"{outcome.num_trained} of {outcome.num_candidates} candidates tried"
    return f"{outcome.num_trained} trials of {cells} of {outcome.num_candidates} candidates (N, s)"


def _answer_sentences(answer: BudgetAnswer, study: StudyRecord) -> Iterator[str]:
    best = answer.best
    if best is None or not answer.is_met:
        yield f"Within {100 * answer.budget:.1f} points: {_none_meets(answer)}."
    else:
        speed = best.measurement.throughput
        yield f"Within {100 * answer.budget:.1f} points: {best.candidate}, verified."
        yield (
            f"  accuracy {100 * best.measurement.accuracy:.1f}, loss "
            f"{_points(best.accuracy_loss)} points (95 % interval {_range(best.interval)}, "
            f"{_paired_on(best)})"
        )
        yield (
            f"  chance {best.chance_within(answer.budget):.2f} that the true loss is at most "
            f"{100 * answer.budget:.1f} points"
        )
        yield (
            f"  {speed.throughput:.0f} seq/s, {best.speedup:.2f}x"
            f"{disturbed_mark(best.measurement)} the dense baseline "
            f"(quartiles {speed.speedup_q1:.2f}x to {speed.speedup_q3:.2f}x)"
        )
        yield from _setting_line(study, best.candidate)
        yield f"  model: {best.measurement.checkpoint}"
    for model in answer.predicted:
        if not model.is_verified and _is_faster(model, best):
            yield (
                f"  not trained: {model.candidate}, predicted {model.speedup:.2f}x, "
                f"chance {model.chance:.2f} of losing at most {100 * answer.budget:.1f} points"
            )
    yield ""


def _setting_line(study: StudyRecord, candidate: Candidate) -> Iterator[str]:
    """Yield the searched hyperparameters of a candidate, if any are searched."""
    changed = dict(candidate.hyperparameters)
    words = [
        f"{key.removeprefix('trainer.')} {value_text(value)}"
        + ("" if key in changed else " (the study's own)")
        for key, value in stored_values(study.config, candidate).items()
    ]
    if words:
        yield f"  hyperparameters: {', '.join(words)}"


def _is_faster(model: PredictedModel, best: MeasuredModel | None) -> bool:
    return best is None or model.speedup > best.speedup


def _none_meets(answer: BudgetAnswer) -> str:
    closest = answer.closest
    if closest is None:
        return "no measured model is faster than the dense baseline"
    needed = math.ceil(1000 * closest.needed_budget(answer.confidence) - 1e-6) / 10
    chance = (
        "" if answer.confidence is None else f", chance {closest.chance_within(answer.budget):.2f}"
    )
    return (
        f"none meets it; closest: {closest.candidate} loses {_points(closest.accuracy_loss)}"
        f"{chance}, {_speedup(closest)} (--budget {needed:.1f})"
    )


def _speedup(model: MeasuredModel | PredictedModel) -> str:
    """Yield a speed-up; one that is not measured on the hardware asked about has a tilde."""
    is_verified = isinstance(model, MeasuredModel) or model.is_verified
    tilde = "~" if is_verified and not model.is_speed_measured else ""
    return f"{tilde}{model.speedup:.2f}x"


def _answer_table(answers: Sequence[BudgetAnswer]) -> Iterator[str]:
    yield (
        "budget                 N     s  accuracy  loss (95 % interval)   speed-up   seq/s"
        "  chance  best"
    )
    for answer in answers:
        budget = f"{100 * answer.budget:6.1f}"
        shown: Candidate | None = None
        if answer.best is not None and answer.is_met:
            shown = answer.best.candidate
            yield f"{budget}  {_measured_row(answer.best, answer.budget)}"
        else:
            yield f"{budget}  {_none_meets(answer)}"
        for model in answer.predicted:
            if model.candidate != shown and not model.candidate.is_baseline:
                yield f"{'':6}  {_predicted_row(model)}"


def _measured_row(model: MeasuredModel, budget: float) -> str:
    speed = model.measurement.throughput
    start = _row(model.candidate, "verified", model.measurement.accuracy, model.accuracy_loss)
    speedup = f"{_speedup(model)}{disturbed_mark(model.measurement)}"
    end = f"  {speedup:>9}  {speed.throughput:6.0f}  {model.chance_within(budget):6.2f}"
    return f"{start} {_interval(model.interval)}{end}{_setting(model.candidate, 8)}"


def _predicted_row(model: PredictedModel) -> str:
    start = _row(model.candidate, model.mark, model.accuracy, model.accuracy_loss)
    is_likely = model.chance_best is not None and model.chance_best >= _LEAST_SHOWN
    best = f"{model.chance_best:.2f}" if is_likely else ""
    chance = f"{'':8}  {model.chance:6.2f}"
    rest = f"  {best:>4}{_setting(model.candidate, 2)}".rstrip()
    return f"{start} {_interval(model.interval)}  {_speedup(model):>9}{chance}{rest}"


def _row(candidate: Candidate, mark: str, accuracy: float, loss: float) -> str:
    return (
        f"{mark:<9} {candidate.num_instances:>5}  {candidate.sparsity:.2f}"
        f"  {100 * accuracy:8.1f}  {_points(loss):>5}"
    )


def _setting(candidate: Candidate, gap: int) -> str:
    """Yield the hyperparameters at the end of a line, if they are not the study's own."""
    return f"{'':{gap}}{candidate.setting}" if candidate.hyperparameters else ""


def _interval(interval: Interval) -> str:
    return f"{f'({_range(interval)})':<15}"


def _range(interval: Interval) -> str:
    return f"{_points(interval.low)} to {_points(interval.high)}"


def _points(fraction: float) -> str:
    return f"{100 * fraction + 0.0:.1f}".replace("-0.0", "0.0")


def _measured_table(study: StudyRecord) -> Iterator[str]:
    baseline = study.baseline
    yield "     N     s  achieved  accuracy  points   seq/s  speed-up    time"
    by_speed = sorted(study.measured.items(), key=lambda item: -item[1].speedup)
    for candidate, measurement in by_speed:
        points = 100 * (measurement.accuracy - baseline.accuracy) if baseline else 0.0
        yield (
            f"{candidate.num_instances:>6}  {candidate.sparsity:.2f}  {measurement.sparsity:8.3f}"
            f"  {100 * measurement.accuracy:8.1f}  {format_points(points):>6}"
            f"  {measurement.throughput.throughput:6.0f}  {measurement.speedup:7.2f}x"
            f"{disturbed_mark(measurement):<1} {format_duration(measurement.duration_s):>6}"
            f"{_setting(candidate, 2)}"
        )
    if any(disturbed_mark(measurement) for _, measurement in by_speed):
        yield DISTURBED_NOTE


def _failures(study: StudyRecord) -> Iterator[str]:
    for trial in study.trials:
        if trial.failure is not None:
            message = " ".join(trial.failure.message.split())
            yield f"failed: {format_candidate(trial.candidate)}  {trial.failure.cause}: {message}"


def _is_printable(storage: str) -> bool:
    """True for a file's URL; others may hold a password."""
    return storage.startswith("sqlite:")


def _export_advice(outcome: Outcome, storage: str) -> Iterator[str]:
    """Yield the command that exports the answer, of several that to the loosest budget."""
    met = [answer for answer in outcome.answers if answer.is_met]
    if met:
        points = f"{round(100 * met[-1].budget, 4):g}"
        what = f"the answer to {points} points" if len(outcome.answers) > 1 else "the model"
        yield f"Export {what}:"
        command = _command("export", outcome.study, storage)
        yield f"  {command} --budget {points} --out {EXPORT_TO}"


def _command(name: str, study: StudyRecord, storage: str) -> str:
    words = ["autoprumux", name]
    if storage != DEFAULT_STORAGE:
        words += ["--storage", storage if _is_printable(storage) else "URL"]
    return shlex.join([*words, "--study", study.name])
