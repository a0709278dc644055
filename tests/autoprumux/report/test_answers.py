import csv
import json
import re
from dataclasses import dataclass, replace

import pytest

from autoprumux.answers import BudgetAnswer, answer_budgets
from autoprumux.records import Candidate, StudyRecord
from autoprumux.report.answer_rows import answers_to_csv, answers_to_rows
from autoprumux.report.answers import (
    format_answers,
    format_outcome,
    outcome_to_dict,
)

BUILTIN_NOTE = "built-in data: made-up examples, not GLUE"


@dataclass(frozen=True)
class Outcome:
    study: StudyRecord
    answers: tuple[BudgetAnswer, ...]
    stop_reason: str = "settled"
    num_trained: int = 10
    minutes_spent: float = 8.31
    minutes_full_grid: float = 31.0
    num_candidates: int = 36


@pytest.fixture
def study(demo_study) -> StudyRecord:
    search = {"widths": [1, 2, 5, 10], "sparsities": [0.0, 0.6, 0.8, 0.95]}
    return replace(demo_study, config={"search": search})


def outcome_of(study: StudyRecord, *budgets: float) -> Outcome:
    return Outcome(study, answer_budgets(study, budgets))


def test_a_table_of_answers_fits_a_terminal_of_100_columns(study):
    text = format_answers(study, answer_budgets(study, [0.0, 0.005, 0.02, 0.1]))

    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.isascii()


def test_a_table_marks_what_is_measured_and_what_is_only_predicted(study):
    lines = format_answers(study, answer_budgets(study, [0.02])).splitlines()

    answer = next(line for line in lines if line.startswith("   2.0"))
    assert answer.split()[1:4] == ["verified", "1", "0.60"]
    predicted = [line for line in lines if line.split()[:1] == ["predicted"]]
    assert predicted
    assert all(0 <= float(line.split()[-1]) <= 1 for line in predicted)
    header = next(line for line in lines if line.startswith("budget"))
    assert header.split()[-2:] == ["chance", "best"]


def without_bits(study, *numbers):
    """The study without the correctness of single examples of these trials, as a file has it."""
    trials = [
        replace(t, measurement=replace(t.measurement, correctness=b""))
        if t.number in numbers
        else t
        for t in study.trials
    ]
    return replace(study, trials=tuple(trials))


def test_a_table_has_the_chance_of_the_answer_and_what_it_rests_on(study):
    answers = answer_budgets(study, [0.02])

    lines = format_answers(study, answers).splitlines()

    header, row = (next(x for x in lines if x.startswith(s)) for s in ("budget", "   2.0"))
    end = header.index("chance") + len("chance")
    assert row[:end].split()[-1] == f"{answers[0].best.chance_within(0.02):.2f}"
    assert "losses of verified models: paired test on 1,000 examples" in lines
    assert "not paired" not in " ".join(lines)


def test_a_loss_that_rests_on_two_accuracies_alone_is_told(study):
    some, none = without_bits(study, 2), without_bits(study, 0)

    told_some, told_none = (format_answers(s, answer_budgets(s, [0.02])) for s in (some, none))
    searched = format_outcome(outcome_of(some, 0.02), "sqlite:///autoprumux.db")

    assert "paired test on 1,000 examples\nnot paired, so with wider intervals: N=1 s=0.60\n" in (
        told_some
    )
    assert "paired test on" not in told_none
    assert "not paired, so with wider intervals: N=1 s=0.60" in told_none
    assert ", not paired)\n" in searched


@pytest.mark.parametrize("is_paired", [True, False])
def test_programs_are_told_the_chance_of_the_answer_and_what_it_rests_on(study, is_paired):
    answers = answer_budgets(study if is_paired else without_bits(study, 0), [0.02])

    (row,) = answers_to_rows(answers)
    first, *_ = csv.DictReader(answers_to_csv(answers).splitlines())

    best = row["best"]
    assert best["chance"] == answers[0].best.chance_within(0.02)
    assert best["is_paired"] is is_paired
    assert best["num_examples"] == 1000
    assert (first["role"], float(first["chance"])) == ("best", best["chance"])
    assert (first["is_paired"], first["num_examples"]) == (str(is_paired), "1000")
    for model in row["predicted"]:
        assert model["is_paired"] is (is_paired if model["status"] == "verified" else None)


def test_a_budget_that_no_faster_model_meets_names_the_closest_and_its_budget(study):
    text = format_answers(study, answer_budgets(study, [0.0]))

    closest = answer_budgets(study, [0.0])[0].closest
    assert closest is not None
    assert f"none meets it; closest: {closest.candidate} loses" in text
    suggested = float(text.partition("(--budget ")[2].split(")")[0])
    assert suggested / 100 < closest.accuracy_loss + 0.001
    assert answer_budgets(study, [suggested / 100])[0].is_met


def test_a_study_of_the_baseline_alone_is_answered(study):
    alone = replace(study, trials=study.trials[:1])

    text = format_outcome(outcome_of(alone, 0.02), "sqlite:///autoprumux.db")

    assert "Within 2.0 points: no measured model is faster than the dense baseline." in text


@pytest.mark.parametrize("fingerprint", ["builtin:qnli:01", "glue:01"])
def test_built_in_data_and_no_other_is_announced_with_every_result(study, fingerprint):
    named = replace(study, data_fingerprint=fingerprint)
    outcome = outcome_of(named, 0.02)
    is_builtin = fingerprint.startswith("builtin:")

    assert (BUILTIN_NOTE in format_answers(named, outcome.answers)) == is_builtin
    assert (BUILTIN_NOTE in format_outcome(outcome, "sqlite:///a.db")) == is_builtin
    assert outcome_to_dict(outcome)["is_builtin_data"] == is_builtin


def test_a_search_ends_with_answer_runners_up_cost_and_how_to_go_on(study):
    text = format_outcome(outcome_of(study, 0.02), "sqlite:///autoprumux.db")

    lines = text.splitlines()
    assert lines[0] == "Within 2.0 points: N=1 s=0.60, verified."
    assert re.search(r"loss \d.* points \(95 % interval .*, paired on 1,000 examples\)$", lines[1])
    best = outcome_of(study, 0.02).answers[0].best
    chance = best.chance_within(0.02)
    assert lines[2] == f"  chance {chance:.2f} that the true loss is at most 2.0 points"
    assert "quartiles" in lines[3]
    assert sum(line.startswith("  ") and line.endswith("s") for line in lines) >= 9
    assert "failed: N=10 s=0.95  sparsity_not_reached: Pruning reached 0.91" in text
    assert "10 of 36 candidates tried in 8.3 minutes" in text
    assert "the full grid would take about 31.0." in text
    assert "Stopped: settled." in text
    assert lines[-3] == "  autoprumux query --study qnli-embedded --budget 0:10:0.5"
    assert lines[-2] == "Export the model:"
    assert lines[-1] == "  autoprumux export --study qnli-embedded --budget 2 --out model"
    assert max(map(len, lines)) <= 120


def test_many_budgets_are_answered_by_a_table(study):
    text = format_outcome(outcome_of(study, 0.0, 0.01, 0.02, 0.1), "sqlite:///autoprumux.db")

    assert text.startswith("budget ")
    assert "Within" not in text


def test_a_storage_url_that_may_hold_a_password_is_not_printed(study):
    text = format_outcome(outcome_of(study, 0.02), "postgresql://me:hunter2@host/name")

    assert "hunter2" not in text
    assert "--storage URL" in text


def test_another_database_is_named_in_the_command_to_go_on(study):
    text = format_outcome(outcome_of(study, 0.02), "sqlite:///my studies.db")

    assert "autoprumux query --storage 'sqlite:///my studies.db' --study" in text


def test_of_several_answers_that_to_the_loosest_budget_is_offered_for_export(study):
    text = format_outcome(outcome_of(study, 0.0, 0.025, 0.1), "sqlite:///my studies.db")

    *_, advice, command = text.splitlines()
    assert advice == "Export the answer to 10 points:"
    assert command == (
        "  autoprumux export --storage 'sqlite:///my studies.db' --study qnli-embedded"
        " --budget 10 --out model"
    )


def test_without_a_model_that_meets_the_budget_no_export_is_offered(study):
    text = format_outcome(outcome_of(study, 0.0), "sqlite:///autoprumux.db")

    assert "autoprumux export" not in text
    assert text.splitlines()[-1].startswith("  autoprumux query ")


def test_json_rows_hold_fractions_and_say_what_is_verified(study):
    rows = json.loads(json.dumps(answers_to_rows(answer_budgets(study, [0.02])), allow_nan=False))

    assert [row["budget"] for row in rows] == [0.02]
    best = rows[0]["best"]
    assert (best["num_instances"], best["sparsity"], best["status"]) == (1, 0.6, "verified")
    baseline = study.measured[Candidate(1, 0.0)].accuracy
    assert best["accuracy_loss"] == pytest.approx(baseline - best["accuracy"])
    low, high = best["accuracy_loss_interval"]
    assert low < best["accuracy_loss"] < high
    assert {model["status"] for model in rows[0]["predicted"]} <= {"verified", "predicted"}
    assert rows[0]["is_met"] is True
    assert rows[0]["closest"] is None
