"""`autoprumux bench --recorded`: trainings of a recording with the speeds of this machine."""

import json
from dataclasses import replace
from statistics import median

import pytest
from typer.testing import CliRunner

from autoprumux.cli.main import app
from autoprumux.evaluators import timed
from autoprumux.evaluators.recording import record_studies
from autoprumux.evaluators.recording_files import load_recording, save_recording

SPEED = ["--batch-size", "2", "--length", "8", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def recording(make_recorded_study):
    """Two widths, one of whose cells failed, two seeds."""
    studies = [make_recorded_study(seed=seed, widths=(1, 5)) for seed in (0, 1)]
    return record_studies(studies, name="small", recorded="2026-11-23")


@pytest.fixture
def rows_file(recording, tmp_path):
    return save_recording(recording, tmp_path)[1]


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_structures_are_timed_and_all_else_stays(recording, rows_file, tmp_path):
    result = bench("--recorded", rows_file, "--out", tmp_path / "new", *SPEED)

    assert result.exit_code == 0, result.stderr
    found, before = (load_recording(str(d / "small.csv")) for d in (tmp_path / "new", tmp_path))
    assert found.trained == {**before.environment, "recorded": ("2026-11-23",)}
    assert found.recorded > before.recorded
    assert found.environment["num_threads"] == ("1",)
    assert "torch_version" in found.environment
    for mine, theirs in zip(found.trials, before.trials, strict=True):
        if theirs.measurement is None:
            assert mine == theirs
            continue
        speed = mine.measurement.throughput
        assert (speed.batch_size, speed.length, speed.num_threads) == (2, 8, 1)
        assert replace(mine.measurement, throughput=theirs.measurement.throughput) == (
            theirs.measurement
        )
    speedups = {(t.candidate, t.seed): t.measurement for t in found.trials if t.measurement}
    assert all(m.speedup == 1 for (c, _), m in speedups.items() if c.is_baseline)
    wide = [m.speedup for (c, _), m in speedups.items() if c.num_instances == 5]
    assert median(wide) > 1.5  # one of them may be disturbed
    assert len([line for line in result.stderr.splitlines() if "before" in line]) == 10


def test_a_second_timing_keeps_where_the_trainings_ran(rows_file, recording, tmp_path):
    bench("--recorded", rows_file, "--out", tmp_path / "new", *SPEED)

    bench("--recorded", tmp_path / "new" / "small.csv", "--out", tmp_path / "again", *SPEED)

    trained = load_recording(str(tmp_path / "again" / "small.csv")).trained
    assert trained == {**recording.environment, "recorded": ("2026-11-23",)}


def test_a_recording_as_it_was_made_names_no_other_machine(rows_file):
    header = json.loads(rows_file.with_suffix(".json").read_text())

    assert "trained" not in header


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recorded", "small.csv"], "`--recorded` needs the folder to write to; give it with"),
        (["--out", "new"], "`--out` goes with `--recorded`, got new."),
        (["--model", "mine"], "`--model` goes with `--recorded`, got mine."),
        (["a-study", "--recorded", "small.csv"], "`STUDY|DIR` does not go with `--recorded`"),
        (["--recorded", "small.csv", "--calibrate"], "`--calibrate` does not go with"),
        (["--recorded", "small.csv", "--out", "new", "--model", "mine"], "built-in model. Leave"),
        (["--recorded", "no-such", "--out", "new"], "`--recorded` 'no-such' is unknown; there"),
    ],
)
@pytest.mark.usefixtures("rows_file")
def test_an_unusable_option_is_refused_before_timing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timed, "measure_throughput", None)

    result = bench(*arguments)

    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_recording_of_a_folders_weights_asks_for_them(recording, tmp_path):
    trainer = {**recording.trainer, "model": {**recording.trainer["model"], "source": "model"}}
    _, rows = save_recording(replace(recording, trainer=trainer), tmp_path)

    result = bench("--recorded", rows, "--out", tmp_path / "new", *SPEED)

    assert result.exit_code == 2
    assert "Give its directory or Hugging Face id with `--model`." in result.stderr


def test_a_length_that_does_not_fit_is_refused(rows_file, tmp_path):
    result = bench("--recorded", rows_file, "--out", tmp_path / "new", "--length", "99999")

    assert result.exit_code == 1
    assert "`--length` must be at most 32, the positions of the model" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_recording_of_failures_alone_has_nothing_to_time(recording, tmp_path):
    failed = tuple(trial for trial in recording.trials if trial.measurement is None)
    _, rows = save_recording(replace(recording, trials=failed), tmp_path)

    result = bench("--recorded", rows, "--out", tmp_path / "new", *SPEED)

    assert result.exit_code == 2
    assert "The recording `small` has no trained model to time." in result.stderr


@pytest.mark.parametrize("trained", [3, {"processor": "one"}, {"processor": [1]}])
def test_a_header_that_tells_no_machine_is_refused(trained, rows_file, tmp_path):
    header_file = rows_file.with_suffix(".json")
    header = json.loads(header_file.read_text())
    header_file.write_text(json.dumps({**header, "trained": trained}))

    result = bench("--recorded", rows_file, "--out", tmp_path / "new")

    assert result.exit_code == 2
    assert "small.json: `trained` cannot be" in result.stderr
