import io
import sys

import pytest

from autoprumux.report.predictions import (
    PredictionSummary,
    format_summary,
    format_warnings,
    summary_to_dict,
    with_progress,
)
from trainers.results import Prediction


@pytest.fixture
def summary():
    return PredictionSummary(
        num_instances=5, max_length=32, is_length_guessed=False, backend="torch", device="cpu"
    )


def labelled(row, **marks):
    return Prediction(row, row + 1, "yes", 0.9, (0.1, 0.9), **marks)


def unlabelled(row):
    return Prediction(row, row + 1, None, None, (), "not UTF-8 (byte 0xff)")


def test_rows_in_order_need_no_warning(summary):
    summary.add(labelled(1))
    summary.duration_s = 0.5

    assert format_warnings(summary) == []
    assert format_summary(summary) == (
        "1 of 1 row labelled in 0.5s, 2 seq/s (N=5, torch, cpu; 0 % padding)"
    )


def test_every_kind_of_fault_is_told_with_its_lines(summary):
    for prediction in (
        labelled(1, is_empty=True),
        unlabelled(2),
        labelled(3, is_cut=True),
        labelled(4, is_cut=True),
    ):
        summary.add(prediction)

    assert format_warnings(summary) == [
        "line 3: not UTF-8 (byte 0xff)",
        "1 row without a label",
        "1 row labelled with an empty text: line 2",
        "2 rows longer than 32 tokens, labelled by the beginning: lines 4, 5",
    ]
    assert summary.num_labelled == 3


def test_only_the_first_faults_are_listed_and_all_are_counted(summary):
    for row in range(1, 1001):
        summary.add(unlabelled(row))
        summary.add(labelled(row, is_cut=True))

    lines = format_warnings(summary)

    assert len(lines) == 20 + 2
    assert lines[19] == "line 21: not UTF-8 (byte 0xff)"
    assert lines[20] == "1000 rows without a label (980 more than listed)"
    assert lines[21].endswith("20, 21 and 980 more")
    assert len(summary.unlabelled.first) == 20


def test_a_length_for_want_of_a_better_is_told(summary):
    summary.is_length_guessed = True

    assert "rows were cut at 32 tokens" in format_warnings(summary)[0]


def test_the_json_names_counts_and_lines(summary):
    summary.add(unlabelled(1))
    summary.add(labelled(2))
    summary.duration_s = 0.5

    found = summary_to_dict(summary)

    assert (found["num_rows"], found["num_labelled"], found["num_unlabelled"]) == (2, 1, 1)
    assert (found["unlabelled_lines"], found["cut_lines"]) == ([2], [])
    assert found["throughput"] == 2.0


def test_progress_shows_nothing_outside_a_terminal(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    rows = [labelled(row) for row in range(1, 601)]

    assert list(with_progress(rows, lambda: (1, 2))) == rows
    assert stderr.getvalue() == ""


def test_progress_on_a_terminal_shows_the_rows(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")

    list(with_progress([labelled(row) for row in range(1, 601)], lambda: (50, 100)))

    assert "512 rows" in stderr.getvalue()
    assert "50%" in stderr.getvalue()
