import json
import sys
from dataclasses import replace

import pytest
from fake_timers import FakeTimer, fake_clock
from typer.testing import CliRunner

import autoprumux
from autoprumux.cli.main import app
from autoprumux.records import (
    Candidate,
    Choice,
    EncoderShape,
)
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository
from autoprumux.surrogates.structure_latency import MAX_TIMINGS

STORAGE = "sqlite:///study.db"


@pytest.fixture(autouse=True)
def timers(tmp_path, monkeypatch):
    """The timers that were made; the clock is a fake and the folder is empty."""
    made = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "autoprumux.evaluators.timed", fake_clock(made))
    return made


@pytest.fixture
def study(demo_study, tmp_path):
    """The demo study in `study.db`; the folder of one model is here."""
    folder = tmp_path / "model"
    folder.mkdir()
    trials = list(demo_study.trials)
    trials[1] = replace(
        trials[1], measurement=replace(trials[1].measurement, checkpoint=str(folder))
    )
    stored = replace(demo_study, trials=tuple(trials))
    database = open_database(STORAGE)
    repository = Repository(database)
    repository.save_study(stored)
    for trial in stored.trials:
        seed = trial.measurement.seed if trial.measurement else 0
        choice = trial.choice or Choice(reason="none")
        repository.save_start(stored.name, trial.number, trial.candidate, seed, choice)
        if trial.measurement is not None:
            repository.save_measurement(stored.name, trial.number, trial.measurement)
        if trial.failure is not None:
            repository.save_failure(stored.name, trial.number, trial.failure)
    database.close()
    return stored


def run(*arguments):
    return CliRunner().invoke(app, [*arguments, "--storage", STORAGE])


def test_a_timed_study_answers_for_this_hardware(study, timers):
    timed = run("bench", "--batch-size", "8")
    asked = run("query", "--device-profile", "fake-b8", "--budget", "0:10:1", "--json")

    assert timed.exit_code == asked.exit_code == 0, timed.stderr + asked.stderr
    assert "autoprumux query --study qnli-embedded --device-profile fake-b8" in timed.stdout
    assert len(timers[0].timed) == len(study.measured)
    assert timers[0].timed[0][0] == EncoderShape(1, 128, (4,) * 4, (512,) * 4)
    models = [answer["best"] for answer in json.loads(asked.stdout)]
    assert {model["speed_status"] for model in models} == {"verified"}
    timer = timers[0]
    for model in models:
        measured = study.measured[Candidate(model["num_instances"], model["sparsity"])]
        shape = EncoderShape(
            model["num_instances"],
            measured.structure.hidden_size,
            measured.structure.head_counts,
            measured.structure.feedforward_sizes,
        )
        assert model["throughput"] == timer.measure(shape, "").throughput
        assert model["accuracy"] == measured.accuracy


def test_models_that_are_not_here_are_said_to_be_timed_untrained(study, timers):
    shown = run("bench", "--name", "timed").stderr.splitlines()

    (kept,) = [line for line in shown if not line.endswith(", untrained: its model is not here")]
    assert kept.startswith("N=2 s=0.00: ")


def test_a_calibrated_study_predicts_what_timing_would_measure(study, timers):
    run("bench", "--name", "timed")
    calibrated = run("bench", "qnli-embedded", "--calibrate", "--name", "calibrated")

    assert calibrated.exit_code == 0, calibrated.stderr
    assert f"{MAX_TIMINGS} untrained models timed in 20 rounds" in calibrated.stdout
    one = autoprumux.query(budget="0:10:1", device_profile="timed", storage=STORAGE)
    other = autoprumux.query(budget="0:10:1", device_profile="calibrated", storage=STORAGE)
    assert other.hardware.is_calibrated
    for first, second in zip(one.answers, other.answers, strict=True):
        assert first.best.candidate == second.best.candidate
        assert second.best.speedup == pytest.approx(first.best.speedup, rel=0.03)
        assert first.best.is_speed_measured
        assert not second.best.is_speed_measured
    text = run("query", "--device-profile", "calibrated", "--budget", "10").stdout
    assert "0 models timed there, 9 predicted from its calibration (~)" in text
    assert f"~{other.answers[-1].best.speedup:.2f}x" in text


def test_the_search_of_a_study_is_what_it_answers_with_by_default(study):
    before = run("query", "--json").stdout

    run("bench", "--calibrate", "--batch-size", "32")
    run("bench", "--batch-size", "32")

    assert run("query", "--json").stdout == before
    profiles = run("query", "--device-profiles").stdout.splitlines()
    assert len(profiles) == 1
    assert "Imaginary 9000" in profiles[0]


def test_a_folder_of_a_stored_trial_is_stored_with_it(study):
    outcome = autoprumux.bench("model", storage=STORAGE)

    found = autoprumux.query(storage=STORAGE, device_profile=outcome.profile.name)
    assert outcome.measured[0][0] == study.trials[1].candidate
    assert found.hardware.predicted == set(study.measured) - {study.trials[1].candidate}
    assert not found.hardware.is_calibrated


def test_a_calibration_in_the_setting_of_the_study_tells_the_speeds_of_what_is_not_trained(study):
    before = autoprumux.query(budget="0:10:1", storage=STORAGE)

    run("bench", "--calibrate")

    after = autoprumux.query(budget="0:10:1", storage=STORAGE)
    assert [a.best for a in after.answers] == [a.best for a in before.answers]
    first, second = (
        {m.candidate: m for a in found.answers for m in a.predicted if not m.is_verified}
        for found in (before, after)
    )
    both = first.keys() & second.keys()
    assert both
    assert all(first[c].speedup != second[c].speedup for c in both)


@pytest.mark.usefixtures("study")
def test_a_folder_of_no_stored_trial_is_timed_and_not_stored(tmp_path):
    (tmp_path / "other").mkdir()

    timed, profiles = run("bench", "other"), run("query", "--device-profiles")

    assert timed.exit_code == 0, timed.stderr
    assert "Not stored: the directory is of no trial in this database." in timed.stdout
    assert "No device profiles are stored" in profiles.stdout


def test_a_folder_is_timed_without_a_database_and_makes_none(tmp_path):
    (tmp_path / "other").mkdir()

    timed = run("bench", "other", "--json")

    assert json.loads(timed.stdout)["study"] is None
    assert not (tmp_path / "study.db").exists()


@pytest.mark.usefixtures("study")
def test_a_name_that_stands_for_another_setting_is_refused_before_timing(timers):
    assert run("bench", "--name", "mine").exit_code == 0

    refused = run("bench", "--name", "mine", "--batch-size", "3")

    assert refused.exit_code == 2
    assert "Profile `mine` stands for `batch_size` 64, here it is 3" in refused.stderr
    assert timers[1].timed == []


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "`--batch-size` must be at least 1, got 0."),
        (["--threads", "-1"], "`--threads` must be at least 1, got -1."),
        (["--device", "tpu"], "`--device` must be one of auto, cpu, cuda, got 'tpu'."),
        (["--name", " "], "`--name` must not be empty."),
        (["no/such/folder"], "There is no folder `no/such/folder`; name a model directory"),
        (["model", "--calibrate"], "`--calibrate` needs a study, not the directory of a model."),
    ],
)
def test_an_unusable_option_is_refused(timers, arguments, message):
    result = run("bench", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert timers == []


def test_a_busy_machine_is_told(study, monkeypatch):
    def noisy(self, shapes, limit_s, between=None):
        timings, num_rounds = FakeTimer.quiet(self, shapes, limit_s)
        return [
            replace(t, share=t.share * (9 if i % 2 else 1)) for i, t in enumerate(timings)
        ], num_rounds

    monkeypatch.setattr(FakeTimer, "quiet", FakeTimer.time_shapes, raising=False)
    monkeypatch.setattr(FakeTimer, "time_shapes", noisy)

    result = run("bench", "--calibrate")

    assert "The machine was too busy for this to be of use" in result.stdout
