import pytest

from autoprumux.records import Candidate, Choice, Failure, TrialRecord
from autoprumux.report.tables import format_choice, format_duration, format_points, format_trial


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (192, "3m12s"),
        (3599.7, "1h00m"),
        (7500, "2h05m"),
    ],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("points", "text"), [(-1.94, "-1.9"), (0.3, "+0.3"), (-0.04, "0.0"), (-12.0, "-12.0")]
)
def test_points_carry_their_sign_unless_they_vanish(points, text):
    assert format_points(points) == text


def test_a_choice_is_told_in_numbers_or_else_in_its_own_words():
    scored = Choice(reason="long", chance=0.82, expected_gain=1.4, predicted_minutes=1.12)
    first = Choice(reason="the dense baseline is always first", predicted_minutes=1.0)

    assert format_choice(scored) == "chance 0.82, gain 1.4x, 1.1 min"
    assert format_choice(first) == "the dense baseline is always first"


def test_a_finished_trial_is_one_line_with_the_comparison_a_reader_wants(demo_measurement):
    trial = TrialRecord(
        number=12,
        candidate=Candidate(5, 0.6),
        state="complete",
        choice=Choice(reason="", chance=0.82, expected_gain=1.4, predicted_minutes=1.1),
        measurement=demo_measurement(Candidate(5, 0.6)),
    )

    line = format_trial(trial, demo_measurement(Candidate(1, 0.0)))

    assert line == (
        "trial 12  N=5  s=0.60  accuracy 85.0  (-6.0 points)   8569 seq/s  (7.1x)   1m30s"
        "  | chance 0.82, gain 1.4x, 1.1 min"
    )
    assert line.isascii()


def test_lines_of_all_finished_trials_have_the_same_columns(demo_study):
    lines = [
        format_trial(trial, demo_study.baseline)
        for trial in demo_study.trials
        if trial.state == "complete"
    ]

    assert len({line.index("|") for line in lines}) == 1


def test_a_failed_trial_tells_its_cause_and_message_in_one_line():
    trial = TrialRecord(
        number=3,
        candidate=Candidate(10, 0.95),
        state="failed",
        failure=Failure(cause="nan", message="The loss became NaN\nafter 12 updates."),
    )

    assert format_trial(trial, None) == (
        "trial  3  N=10 s=0.95  failed (nan): The loss became NaN after 12 updates."
    )
