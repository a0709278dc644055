import errno
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.errors import StorageError, UsageError
from autoprumux.evaluators.recording import RecordedTrial, Recording, record_studies
from autoprumux.evaluators.recording_files import load_recording, save_recording
from autoprumux.records import (
    FAILURE_CAUSES,
    Candidate,
    Failure,
    Measurement,
    PhaseRecord,
    Structure,
    Throughput,
)


@pytest.fixture
def recording(make_recorded_study) -> Recording:
    studies = [make_recorded_study(seed=0), make_recorded_study(seed=1)]
    return record_studies(studies, name="small", recorded="2026-11-23")


@pytest.fixture
def rows_file(recording, tmp_path):
    return save_recording(recording, tmp_path)[1]


def as_if_alone(trial: RecordedTrial) -> RecordedTrial:
    """Every phase counts as trained: which ones a cache saves depends on the order of a replay."""
    if trial.measurement is None:
        return trial
    phases = tuple(replace(p, is_cached=False) for p in trial.measurement.phases)
    return replace(trial, measurement=replace(trial.measurement, phases=phases))


def test_files_give_back_what_was_written(recording, rows_file):
    loaded = load_recording(str(rows_file))

    alone = replace(recording, trials=tuple(map(as_if_alone, recording.trials)))
    assert replace(loaded, trials=()) == replace(alone, trials=())
    for mine, theirs in zip(loaded.trials, alone.trials, strict=True):
        assert mine == theirs


def test_either_file_names_the_recording(rows_file):
    assert load_recording(str(rows_file.with_suffix(".json"))) == load_recording(str(rows_file))


def test_a_new_trial_is_a_new_line(recording, tmp_path):
    _, whole = save_recording(recording, tmp_path / "whole")
    fewer = replace(recording, trials=recording.trials[:5] + recording.trials[6:])
    _, part = save_recording(fewer, tmp_path / "part")

    lines = whole.read_text().splitlines()
    assert part.read_text().splitlines() == lines[:6] + lines[7:]


finite = st.floats(0.0, 1e6, allow_subnormal=False)
positive = st.floats(1e-6, 1e6)
counts = st.integers(0, 10**9)
words = st.text(st.characters(codec="utf-8", exclude_characters=" :\r\n\0"), min_size=1)
phases = st.builds(
    PhaseRecord,
    name=words.filter(lambda word: not any(c.isspace() for c in word)),
    num_updates=counts,
    duration_s=st.just(0.0),
    memory_mib=finite,
    is_cached=st.just(False),
)
measurements = st.builds(
    Measurement,
    accuracy=st.floats(0.0, 1.0),
    accuracy_std=finite,
    num_examples=counts,
    num_compositions=counts,
    correctness=st.just(b""),
    throughput=st.builds(
        Throughput,
        **dict.fromkeys((f.name for f in fields(Throughput) if f.type is float), positive),
        **dict.fromkeys((f.name for f in fields(Throughput) if f.type is int), counts),
        **dict.fromkeys(("dtype", "device"), words),
    ),
    sparsity=st.floats(0.0, 1.0),
    structure=st.builds(
        Structure,
        **dict.fromkeys((f.name for f in fields(Structure) if f.type is int), counts),
        head_counts=st.lists(counts).map(tuple),
        feedforward_sizes=st.lists(counts).map(tuple),
    ),
    phases=st.lists(phases).map(tuple),
    duration_s=finite,
    checkpoint=st.just(""),
    seed=counts,
    environment=st.just({}),
)
failures = st.builds(
    Failure,
    cause=st.sampled_from(FAILURE_CAUSES),
    message=st.text(st.characters(codec="utf-8", exclude_characters="\r\0")),
    last_accuracy=st.none() | st.floats(0.0, 1.0),
)


@settings(deadline=None, max_examples=25)
@given(outcome=measurements | failures)
def test_any_outcome_survives_the_files(tmp_path_factory, outcome):
    is_failure = isinstance(outcome, Failure)
    trial = RecordedTrial(
        candidate=Candidate(2, 0.65),
        seed=3,
        measurement=None if is_failure else outcome,
        failure=outcome if is_failure else None,
    )
    recording = Recording(
        name="any",
        task="qnli",
        data_fingerprint="",
        trainer={},
        commands=(),
        environment={},
        recorded="2026-11-23",
        trials=(trial,),
    )

    _, rows_file = save_recording(recording, tmp_path_factory.mktemp("any"))

    assert load_recording(str(rows_file)) == recording


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("accuracy,", "correct,", r"small\.csv, line 2: column `accuracy` is missing\."),
        ("\n2,", "\ntwo,", r"small\.csv, line \d+: invalid literal .* 'two'\."),
        (",1000.0,", ",nan,", r"small\.csv, line 2: numbers must be finite, got nan\."),
    ],
)
def test_a_broken_row_is_refused_with_its_line(rows_file, old, new, message):
    rows_file.write_text(rows_file.read_text().replace(old, new, 1))

    with pytest.raises(UsageError, match=message):
        load_recording(str(rows_file))


def test_a_row_that_occurs_twice_is_refused(rows_file):
    lines = rows_file.read_text().splitlines()
    rows_file.write_text("\n".join([*lines, lines[1]]) + "\n")

    with pytest.raises(UsageError, match=r"small\.csv: N=1 s=0\.00 seed 0 occurs twice\."):
        load_recording(str(rows_file))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"small\.json: `format` must be 1, got 2\."),
        ({"task": None}, r"small\.json: `task` is missing\."),
    ],
)
def test_a_header_of_another_form_is_refused(rows_file, change, message):
    header_file = rows_file.with_suffix(".json")
    header = json.loads(header_file.read_text()) | change
    kept = {key: value for key, value in header.items() if value is not None}
    header_file.write_text(json.dumps(kept))

    with pytest.raises(UsageError, match=message):
        load_recording(str(rows_file))


def test_a_header_that_is_no_json_is_refused(rows_file):
    rows_file.with_suffix(".json").write_text("{")

    with pytest.raises(UsageError, match=r"small\.json is not valid JSON"):
        load_recording(str(rows_file))


def test_a_missing_file_is_refused(tmp_path):
    missing = str(tmp_path / "nix.csv")

    with pytest.raises(UsageError, match=r"nix\.json cannot be read: No such file"):
        load_recording(missing)


def test_an_unknown_name_is_refused():
    with pytest.raises(
        UsageError, match=r"`--recorded` 'nix' is unknown; .* path of a \.csv file"
    ):
        load_recording("nix")


def test_a_folder_that_cannot_be_made_is_told(recording, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match=r"` cannot be written: File exists\."):
        save_recording(recording, tmp_path / "file")


def test_a_recording_that_cannot_be_written_whole_leaves_the_old_one(
    recording, tmp_path, monkeypatch
):
    files = save_recording(recording, tmp_path)
    before = [file.read_text(encoding="utf-8") for file in files]
    write = Path.write_text

    def fill(path, text, **options):
        if path.suffix == ".csv":
            write(path, text[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(StorageError, match=r"` cannot be written: No space left on device\."):
        save_recording(replace(recording, commands=("another",)), tmp_path)

    assert [file.read_text(encoding="utf-8") for file in files] == before
    assert sorted(tmp_path.iterdir()) == sorted(files)
