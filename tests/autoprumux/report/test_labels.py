import csv
import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from autoprumux.errors import UsageError
from autoprumux.report.labels import label_format, make_writer, open_labels
from trainers.results import Prediction

LABELS = ("no", "y\tes")
ROWS = [
    Prediction(1, 2, "y\tes", 0.75, (0.25, 0.75)),
    Prediction(2, 3, None, None, (), "not UTF-8\n(byte\t0xff)"),
]


def written(file_format, *, has_all=False):
    file = io.StringIO()
    write = make_writer(file, file_format, LABELS, has_all=has_all)
    for row in ROWS:
        write(row)
    return file.getvalue()


def write_half(out, error, **options):
    with open_labels(out, **options) as file:
        file.write("new")
        raise error


def test_tsv_has_the_same_columns_in_every_row():
    assert written("tsv").splitlines() == [
        "row\tlabel\tprobability\terror",
        "1\ty es\t0.750000\t",
        "2\t\t\tnot UTF-8 (byte 0xff)",
    ]
    assert written("tsv", has_all=True).splitlines() == [
        "row\tlabel\tprobability\tprobability_no\tprobability_y es\terror",
        "1\ty es\t0.750000\t0.250000\t0.750000\t",
        "2\t\t\t\t\tnot UTF-8 (byte 0xff)",
    ]


def test_csv_keeps_labels_as_they_are():
    rows = list(csv.DictReader(io.StringIO(written("csv", has_all=True))))

    assert rows[0]["label"] == "y\tes"
    assert rows[0]["probability_no"] == "0.250000"
    assert (rows[1]["label"], rows[1]["error"]) == ("", "not UTF-8\n(byte\t0xff)")


def test_jsonl_has_null_for_what_a_row_lacks():
    first, second = map(json.loads, written("jsonl", has_all=True).splitlines())

    assert first == {
        "row": 1,
        "label": "y\tes",
        "probability": 0.75,
        "probabilities": {"no": 0.25, "y\tes": 0.75},
        "error": None,
    }
    assert second["label"] is second["probability"] is second["probabilities"] is None
    assert "probabilities" not in json.loads(written("jsonl").splitlines()[0])


@pytest.mark.parametrize(
    ("out", "input_format", "expected"),
    [
        ("a.tsv", "csv", "tsv"),
        ("a.CSV", "tsv", "csv"),
        ("a.jsonl", "tsv", "jsonl"),
        ("-", "jsonl", "jsonl"),
        ("-", "parquet", "tsv"),
    ],
)
def test_the_suffix_or_the_input_decides_the_format(out, input_format, expected):
    assert label_format(out, input_format) == expected


def test_an_unknown_suffix_is_refused():
    with pytest.raises(UsageError, match=r"must end in one of \.tsv, \.csv, \.jsonl, got `a.txt`"):
        label_format("a.txt", "tsv")


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.tsv"
    with open_labels(str(path)) as file:
        file.write("label\n")
        assert not path.exists()

    assert path.read_text(encoding="utf-8") == "label\n"
    assert [found.name for found in tmp_path.iterdir()] == ["a.tsv"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.tsv"
    path.write_text("old", encoding="utf-8")

    with pytest.raises(error):
        write_half(str(path), error)

    assert path.read_text(encoding="utf-8") == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.tsv"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "a.tsv").symlink_to(tmp_path / "b.tsv")

    with open_labels(str(tmp_path / "a.tsv")) as file:
        file.write("new")

    assert (tmp_path / "a.tsv").is_symlink()
    assert (tmp_path / "b.tsv").read_text(encoding="utf-8") == "new"


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    (tmp_path / "a.tsv").symlink_to("/dev/null")

    with open_labels(str(tmp_path / "a.tsv")) as file:
        file.write("gone")

    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    with (
        pytest.raises(UsageError, match=r"no/a.tsv` cannot be written: No such file"),
        open_labels(str(tmp_path / "no" / "a.tsv")),
    ):
        pass


@pytest.mark.parametrize("is_held_back", [False, True])
def test_standard_output_is_utf_8_and_stays_open(monkeypatch, is_held_back):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)

    with open_labels("-", is_held_back=is_held_back) as file:
        file.write("Zürich\n")
        file.flush()
        early = stdout.buffer.getvalue()

    assert stdout.buffer.getvalue() == "Zürich\n".encode()
    assert (early == b"") == is_held_back


def test_what_is_held_back_is_lost_when_it_fails(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stdout)

    with pytest.raises(ValueError):  # noqa: PT011  it has no message
        write_half("-", ValueError, is_held_back=True)

    assert stdout.buffer.getvalue() == b""
