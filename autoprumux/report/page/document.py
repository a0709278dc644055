"""The page as one HTML text: sections, figures and tables in their places."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autoprumux.answers import BudgetAnswer, MeasuredModel, candidate_grid
from autoprumux.records import Measurement, StudyRecord
from autoprumux.report.answers import is_builtin
from autoprumux.report.page import provenance
from autoprumux.report.page.budgets import budget_info, draw_budgets
from autoprumux.report.page.calibration import (
    MAX_LEFT_OUT,
    CalibrationInfo,
    calibration_info,
    draw_calibration,
)
from autoprumux.report.page.courses import CourseInfo, course_info, draw_courses
from autoprumux.report.page.front import draw_front, front_info
from autoprumux.report.page.surfaces import draw_surfaces, surface_info
from autoprumux.report.page.theme import Figure
from autoprumux.report.page.trials import columns, shown_trials, trial_rows
from autoprumux.report.tables import BUILTIN_NOTE


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    """One budget in the table of answers, as text."""

    budget: str
    model: str
    accuracy: str = ""
    loss: str = ""
    speedup: str = ""
    throughput: str = ""
    untried: str
    """Candidates that are predicted to be faster."""


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What of a study needs its dense baseline; all empty without one."""

    answers: tuple[AnswerRow, ...] = ()
    budgets: Figure | None = None
    surfaces: tuple[Figure, ...] = ()
    calibration: tuple[Figure, ...] = ()
    calibration_note: str = ""
    budget: float | None = None
    """The loosest asked budget that a measured model meets, if there is one."""


def render_page(study: StudyRecord, budgets: Sequence[float], storage: str) -> str:
    """Yield the page.

    Args:
        study: With its trials.
        budgets: Those to answer, fractions.
        storage: Database URL without passwords.

    Raises:
        StorageError: If the stored configuration of `study` names no widths or sparsities.
    """
    courses = course_info(study)
    baseline = study.baseline
    trials = shown_trials(study)
    parts = _parts(study, baseline, budgets) if baseline else _Parts()
    template = _environment().get_template("page.html")
    return template.render(
        study=study,
        title=f"{study.name}: accuracy and speed-up",
        summary=_summary(study),
        baseline=_baseline_text(baseline) if baseline else "",
        builtin_note=BUILTIN_NOTE if is_builtin(study) else "",
        front=draw_front(front_info(study, budgets)) if study.measured else None,
        parts=parts,
        columns=columns(study),
        rows=list(zip(trials, trial_rows(study, trials), strict=True)),
        courses=draw_courses(courses),
        course_options=_course_options(courses),
        facts=provenance.facts(study),
        conditions=provenance.conditions(study),
        commands=provenance.commands(study, storage, parts.budget),
        study_file=provenance.study_file(study),
        study_file_name=provenance.STUDY_FILE,
        made_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        plotly=Markup(get_plotlyjs()),
        style=_own("page.css"),
        script=_own("page.js"),
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("autoprumux.report.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _own(name: str) -> Markup:
    """Yield a style sheet or script of ours; it is no one's input."""
    folder = resources.files("autoprumux.report.page") / "templates"
    return Markup((folder / name).read_text(encoding="utf-8"))


def _summary(study: StudyRecord) -> str:
    states = [trial.state for trial in study.trials]
    others = "".join(
        f", {states.count(state)} {state}" for state in ("failed", "running") if state in states
    )
    return (
        f"Task {study.task}: {len(study.by_cell)} of {len(candidate_grid(study))} candidates "
        f"measured{others}."
    )


def _baseline_text(baseline: Measurement) -> str:
    speed = baseline.throughput
    threads = f"{speed.num_threads} thread" + ("" if speed.num_threads == 1 else "s")
    return (
        f"Dense baseline (N = 1, s = 0): accuracy {100 * baseline.accuracy:.1f} %, "
        f"{speed.throughput:.0f} sequences per second on {speed.device} ({speed.dtype}, "
        f"{speed.length} tokens, {speed.batch_size} groups in a batch, "
        f"{threads})."
    )


def _parts(study: StudyRecord, baseline: Measurement, budgets: Sequence[float]) -> _Parts:
    curve = budget_info(study, budgets)
    calibration = calibration_info(study, baseline)
    return _Parts(
        answers=tuple(_answer_row(answer) for answer in curve.answers),
        budgets=draw_budgets(curve),
        surfaces=tuple(draw_surfaces(surface_info(study, baseline))),
        calibration=tuple(draw_calibration(calibration)),
        calibration_note=_calibration_note(calibration),
        budget=provenance.loosest_met(curve.answers),
    )


def _calibration_note(info: CalibrationInfo) -> str:
    if not info.left_out:
        return "Nothing but the dense baseline is measured, so there is nothing to leave out."
    which = "Each measured model but the dense baseline is"
    if len(info.left_out) < info.num_measured:
        which = (
            f"{MAX_LEFT_OUT} of the {info.num_measured} measured models, evenly spread over the "
            "trials, are"
        )
    return (
        f"{which} left out in turn and predicted from all the others, failures included. Of good "
        "95 % intervals, 19 in 20 hold."
    )


def _answer_row(answer: BudgetAnswer) -> AnswerRow:
    budget = f"{100 * answer.budget:g}"
    fastest = answer.best.speedup if answer.best else 0.0
    untried = ", ".join(
        f"{p.candidate} ({p.speedup:.2f}x, chance {p.chance:.2f})"
        for p in answer.predicted
        if not p.is_verified and p.speedup > fastest
    )
    if answer.best is None or not answer.is_met:
        return AnswerRow(budget=budget, model=_none_meets(answer.closest), untried=untried or "-")
    measurement = answer.best.measurement
    return AnswerRow(
        budget=budget,
        model=str(answer.best.candidate),
        accuracy=f"{100 * measurement.accuracy:.2f}",
        loss=_loss(answer.best),
        speedup=f"{measurement.speedup:.2f}x",
        throughput=f"{measurement.throughput.throughput:.0f}",
        untried=untried or "-",
    )


def _none_meets(closest: MeasuredModel | None) -> str:
    if closest is None:
        return "no measured model is faster than the dense baseline"
    return (
        f"none meets it; closest: {closest.candidate} loses {100 * closest.accuracy_loss:.2f} "
        f"points at {closest.speedup:.2f}x"
    )


def _loss(model: MeasuredModel) -> str:
    low, high = 100 * model.interval.low, 100 * model.interval.high
    return f"{100 * model.accuracy_loss:.2f} ({low:.2f} to {high:.2f})"


def _course_options(info: CourseInfo) -> list[tuple[int, str, bool]]:
    """Yield number, label and whether it is shown first, of each trial that has a history."""
    numbers = {curve.trial for curve in info.curves}
    last = max(numbers, default=None)
    return [
        (trial.number, f"trial {trial.number}: {trial.candidate}", trial.number == last)
        for trial in info.trials
        if trial.number in numbers
    ]
