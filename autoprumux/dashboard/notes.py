"""Notes in Markdown: what a study and a trial are, for readers of optuna-dashboard."""

import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from autoprumux.answers import (
    BudgetAnswer,
    MeasuredModel,
    answer_budgets,
    measured_models,
    pareto_front,
)
from autoprumux.errors import AutoPrumuxError
from autoprumux.records import Choice, Measurement, RunnerUp, StudyRecord, TrialRecord
from autoprumux.report.answers import is_builtin
from autoprumux.report.markdown import code_block, escape, table
from autoprumux.report.page.provenance import STUDY_FILE, commands, loosest_met
from autoprumux.report.tables import BUILTIN_NOTE, format_duration
from autoprumux.storage.trials import MEETS_BUDGET

OWN_TEXT_BELOW = "[//]: # (autoprumux writes what is above this line; below it, the text is yours)"
"""Markdown shows nothing for it."""

TRIALS_NAME = "trials.csv"
"""Of the file beside the study's note that has all trials."""

MOST_NOTES = 200
"""Trials with a note. optuna-dashboard keeps notes with the study and looks through those of all
trials for each trial that it shows: with a note each, a page of 1,000 trials takes seconds and one
of 10,000 minutes."""


def study_note(study: StudyRecord, budgets: Sequence[float], storage: str) -> str:
    """Yield what a study is, its answers, and how to go on.

    Args:
        study: With its trials.
        budgets: Those to answer, fractions.
        storage: Database URL without passwords.
    """
    answers, fault = _ask(study, budgets)
    shown = commands(study, storage, loosest_met(answers))
    parts = [
        f"# {escape(study.name)}",
        f"**{escape(BUILTIN_NOTE)}**" if is_builtin(study) else "",
        _setting(study, budgets),
        "## Answers",
        fault or _answers(answers),
        "Optuna's list of best trials is the front of accuracy and speed-up; it knows no budget.",
        "## How to read the trials",
        _reading(study, budgets),
        "## Go on",
        code_block(line for line in shown if STUDY_FILE not in line),
    ]
    return "\n\n".join(part for part in parts if part)


def trial_notes(
    study: StudyRecord, budgets: Sequence[float], numbers: AbstractSet[int]
) -> dict[int, str]:
    """Yield the notes of those of the trials `numbers` that have ended, by their numbers."""
    noted = [trial for trial in ended_trials(study) if trial.number in numbers]
    candidates = {trial.candidate for trial in noted}
    known = tuple(t for t in study.trials if t.candidate in candidates)
    baseline = study.baseline
    models = [] if baseline is None else measured_models(replace(study, trials=known), baseline)
    compared = {model.candidate: model for model in models}
    return {
        trial.number: _trial_note(trial, compared.get(trial.candidate), budgets, study)
        for trial in noted
    }


def ended_trials(study: StudyRecord) -> list[TrialRecord]:
    """Yield the trials that are done, in order of their number."""
    return [trial for trial in study.trials if trial.state != "running"]


def noted_trials(study: StudyRecord) -> set[int]:
    """Yield the numbers of the trials that have notes: all, or those on the front and the newest.

    See `MOST_NOTES`.
    """
    ended = ended_trials(study)
    front = {candidate for candidate, _ in pareto_front(study.measured)}
    first = [trial.number for trial in ended if trial.candidate in front]
    others = [trial.number for trial in ended if trial.candidate not in front]
    return set((others + first)[-MOST_NOTES:])


def _setting(study: StudyRecord, budgets: Sequence[float]) -> str:
    search, trainer = _part(study.config, "search"), _part(study.config, "trainer")
    states = [trial.state for trial in study.trials]
    counts = [f"{states.count(state)} {state}" for state in ("complete", "failed", "running")]
    source = _part(trainer, "data").get("source", "")
    return table(
        ("study", ""),
        (
            ("task", study.task),
            ("data", f"{source} ({study.data_fingerprint})"),
            ("model", _part(trainer, "model").get("source", "")),
            ("budgets, points of accuracy", _points_list(budgets)),
            ("mux widths N", _listed(search.get("widths"))),
            ("sparsities s", _listed(search.get("sparsities"))),
            *_searched(search),
            ("trials", ", ".join(counts)),
            ("seed", study.seed),
        ),
    )


def _searched(search: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, values in _part(search, "hyperparameters").items():
        yield key.removeprefix("trainer."), json.dumps(values)


def _ask(study: StudyRecord, budgets: Sequence[float]) -> tuple[Sequence[BudgetAnswer], str]:
    """Yield the answers, or why there are none."""
    if study.baseline is None:
        return (
            (),
            "The dense baseline (N = 1, s = 0) is not measured, so there are no answers yet.",
        )
    try:
        return answer_budgets(study, budgets), ""
    except AutoPrumuxError as error:
        return (), escape(error)


def _answers(answers: Sequence[BudgetAnswer]) -> str:
    head = (
        "budget, points",
        "fastest measured model",
        "loss, points",
        "speed-up",
        "may be faster",
    )
    return table(head, [_answer_row(answer) for answer in answers])


def _answer_row(answer: BudgetAnswer) -> Sequence[str]:
    best, budget = answer.best, f"{100 * answer.budget:g}"
    fastest = best.speedup if best else 0.0
    untried = "; ".join(
        f"{p.candidate}, {p.speedup:.2f}x, chance {p.chance:.2f}"
        for p in answer.predicted
        if not p.is_verified and p.speedup > fastest
    )
    if best is None or not answer.is_met:
        return (budget, f"none meets it{_closest(answer.closest)}", "", "", untried or "-")
    return (budget, str(best.candidate), _loss(best), f"{best.speedup:.2f}x", untried or "-")


def _closest(model: MeasuredModel | None) -> str:
    if model is None:
        return ""
    loss = 100 * model.accuracy_loss
    return f"; closest: {model.candidate} loses {loss:.2f} at {model.speedup:.2f}x"


def _reading(study: StudyRecord, budgets: Sequence[float]) -> str:
    num_ended = len(ended_trials(study))
    noted = "Each trial's note tells the other budgets"
    if num_ended > MOST_NOTES:
        noted = (
            f"Of {num_ended} trials {MOST_NOTES} have a note, those on the front and the newest, "
            f"which tells the other budgets; `{TRIALS_NAME}` has a row for each trial"
        )
    return (
        "Objectives: `accuracy` on the whole validation set (a fraction) and `speedup` "
        "(throughput over the dense baseline's), both to be maximised. Parameters: "
        "`num_instances` is N, `sparsity` is s as requested. A trial is infeasible (grey in "
        f"plots, `{MEETS_BUDGET}` false) if it loses more accuracy than the loosest budget, "
        f"{escape(f'{100 * max(budgets):g}')} points. "
        f"{noted}; a trial's files are the training's log and the values that its phases reported."
    )


def _trial_note(
    trial: TrialRecord,
    model: MeasuredModel | None,
    budgets: Sequence[float],
    study: StudyRecord,
) -> str:
    parts = [f"# {escape(trial.candidate)}"]
    if is_builtin(study):
        parts.append(f"**{escape(BUILTIN_NOTE)}**")
    if trial.choice is not None:
        parts.append(f"**Why chosen:** {escape(trial.choice.reason)}")
    if trial.failure is not None:
        last = trial.failure.last_accuracy
        seen = "" if last is None else f" Last held-out accuracy: {100 * last:.1f} %."
        cause, message = escape(trial.failure.cause), escape(trial.failure.message)
        parts.append(f"**Failed ({cause}):** {message}{escape(seen)}")
    if trial.measurement is not None:
        parts += [
            f"**Budgets:** {escape(_feasibility(model, budgets))}",
            "## Measured",
            _measured(trial, trial.measurement, model),
            "## Trained",
            _phases(trial.measurement),
            "## Structure",
            _structure(trial.measurement),
        ]
    if trial.choice is not None and trial.choice.runners_up:
        parts += ["## Chosen before", _ranking(trial, trial.choice)]
    return "\n\n".join(parts)


def _ranking(trial: TrialRecord, choice: Choice) -> str:
    """Yield the chosen candidate above those that would have come next, with their scores."""
    head = ("candidate", "within the loosest budget", "fastest within one", "gain", "min", "score")
    others = [(str(other.candidate), other) for other in choice.runners_up]
    ranked: list[tuple[str, Choice | RunnerUp]] = [(str(trial.candidate), choice), *others]
    return table(head, [(name, *_score_cells(reasons)) for name, reasons in ranked])


def _score_cells(reasons: Choice | RunnerUp) -> Sequence[str]:
    numbers = (
        (reasons.chance, ".2f"),
        (reasons.chance_best, ".2f"),
        (reasons.expected_gain, ".3f"),
        (reasons.predicted_minutes, ".1f"),
        (reasons.score, ".3g"),
    )
    return ["" if number is None else format(number, form) for number, form in numbers]


def _feasibility(model: MeasuredModel | None, budgets: Sequence[float]) -> str:
    if model is None:
        return "without a measured dense baseline nobody can tell."
    met = [budget for budget in budgets if model.accuracy_loss <= budget + 1e-9]
    missed = [budget for budget in budgets if budget not in met]
    verdicts = [
        f"{word} {_points_list(those)} point{'' if those == [0.01] else 's'}"
        for word, those in (("meets", met), ("misses", missed))
        if those
    ]
    return f"{'; '.join(verdicts)} (loses {100 * model.accuracy_loss:.2f})."


def _measured(trial: TrialRecord, measurement: Measurement, model: MeasuredModel | None) -> str:
    speed = measurement.throughput
    rows = [
        ("accuracy", f"{100 * measurement.accuracy:.2f} % of {measurement.num_examples} examples")
    ]
    if model is not None and not trial.candidate.is_baseline:
        kind = "paired " if model.is_paired else ""
        rows.append((f"accuracy loss, points ({kind}95 % interval)", _loss(model)))
    quartiles = f"{speed.speedup_q1:.2f} to {speed.speedup_q3:.2f}"
    rows += [
        ("speed-up (quartiles)", f"{speed.speedup:.2f}x ({quartiles})"),
        (
            "throughput",
            f"{speed.throughput:.0f} sequences/s on {speed.device}, {speed.dtype}, "
            f"{speed.length} tokens, {speed.batch_size} groups in a batch",
        ),
        ("sparsity requested", f"{trial.candidate.sparsity:.4g}"),
        ("sparsity achieved", f"{measurement.sparsity:.4f}"),
        ("duration", format_duration(measurement.duration_s)),
    ]
    return table(("quantity", "value"), rows)


def _phases(measurement: Measurement) -> str:
    return table(
        ("phase", "updates", "duration", "peak memory, MiB", ""),
        [
            (
                phase.name.replace("_", " "),
                phase.num_updates,
                format_duration(phase.duration_s),
                f"{phase.memory_mib:.0f}",
                "from the cache" if phase.is_cached else "",
            )
            for phase in measurement.phases
        ],
    )


def _structure(measurement: Measurement) -> str:
    structure = measurement.structure
    return table(
        ("part", "size"),
        (
            ("hidden width", structure.hidden_size),
            ("heads per layer", _listed(structure.head_counts)),
            ("feed-forward width per layer", _listed(structure.feedforward_sizes)),
            ("parameters of the encoder", f"{structure.num_encoder_parameters:,}"),
            ("parameters of the model", f"{structure.num_parameters:,}"),
        ),
    )


def _loss(model: MeasuredModel) -> str:
    low, high = 100 * model.interval.low, 100 * model.interval.high
    return f"{100 * model.accuracy_loss + 0.0:.2f} ({low:.2f} to {high:.2f})"


def _part(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = config.get(name)
    return part if isinstance(part, Mapping) else {}


def _listed(values: object) -> str:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ""
    return ", ".join(f"{value:g}" for value in values)


def _points_list(budgets: Sequence[float]) -> str:
    return ", ".join(f"{100 * budget:g}" for budget in budgets)
