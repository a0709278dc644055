"""Searches that know speeds before anything is trained."""

import sys
import threading
from dataclasses import replace

import pytest
from fake_timers import FakeTimer, fake_clock

from autoprumux.api.calibrating import calibrate_first
from autoprumux.api.search import run_search
from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.errors import InputError, NoBaselineError
from autoprumux.evaluators.trained import TrainedEvaluator
from autoprumux.hardware import calibrated_speeds_of
from autoprumux.records import Candidate, Choice
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository
from trainers.config import TrainerConfig

CONFIG = StudyConfig(
    name="qnli-embedded", search=SearchConfig(calibrate=True), trainer=TrainerConfig(task="qnli")
)


@pytest.fixture
def timers(monkeypatch):
    """The timers that were made."""
    made = []
    monkeypatch.setitem(sys.modules, "autoprumux.evaluators.timed", fake_clock(made))
    return made


@pytest.fixture
def database(tmp_path):
    opened = open_database(f"sqlite:///{tmp_path / 'study.db'}")
    yield opened
    opened.close()


@pytest.fixture
def told():
    return []


def test_a_new_study_is_calibrated_once_for_all_of_its_kind(timers, database, told):
    calibrate_first(CONFIG, database, told.append)
    calibrate_first(replace(CONFIG, name="another"), database, told.append)

    assert len(told) == 2
    assert told[0].startswith("timing 10 untrained models for at most 105 s")
    assert told[1].startswith("calibrated as profile fake-b64: expected misfit ")
    assert len(timers) == 2  # the second only looked which machine this is


def test_another_machine_with_the_same_threads_gets_a_name_of_its_own(
    timers, database, told, monkeypatch
):
    calibrate_first(CONFIG, database, told.append)
    here = FakeTimer.profile

    def there(self, name=""):
        return replace(here(self, name), processor="Imaginary 9001")

    monkeypatch.setattr(FakeTimer, "profile", there)
    calibrate_first(CONFIG, database, told.append)

    assert told[-1].startswith("calibrated as profile fake-b64-2: ")


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_samplers_that_expect_no_speeds_need_none(timers, database, told, sampler):
    search = replace(CONFIG.search, sampler=sampler)

    calibrate_first(replace(CONFIG, search=search), database, told.append)

    assert told == timers == []


def test_a_study_that_has_begun_goes_on_as_it_began(timers, database, told, demo_study):
    repository = Repository(database)
    repository.save_study(demo_study)
    calibrate_first(replace(CONFIG, name=demo_study.name), database, told.append)
    first = demo_study.trials[0]
    repository.save_start(demo_study.name, 0, first.candidate, 0, Choice(reason="first"))

    calibrate_first(
        replace(CONFIG, name=demo_study.name, trainer=TrainerConfig(task="sst2")),
        database,
        told.append,
    )

    assert len(timers) == 1


def test_a_search_without_a_calibration_goes_on_and_says_why(timers, database, told, monkeypatch):
    def too_slow(self, shapes, limit_s, between):
        raise InputError(f"A batch of {self.config.throughput.batch_size} is slow.", cause="error")

    monkeypatch.setattr(FakeTimer, "time_shapes", too_slow)

    calibrate_first(CONFIG, database, told.append)

    assert told[1] == "speeds are not calibrated: A batch of 64 is slow."


def test_what_was_calibrated_is_what_the_search_expects(timers, database, told, demo_study):
    """The demo study's speeds are those of the fake machine's setting."""
    calibrate_first(CONFIG, database, told.append)
    repository = Repository(database)
    repository.save_study(demo_study)
    trial = demo_study.trials[0]
    repository.save_start(
        demo_study.name, 0, trial.candidate, trial.measurement.seed, trial.choice
    )

    assert calibrated_speeds_of(repository.load_study(demo_study.name)) is None  # no baseline yet

    repository.save_measurement(demo_study.name, 0, trial.measurement)
    study = repository.load_study(demo_study.name)
    speeds = calibrated_speeds_of(study)
    assert speeds.profile == "fake-b64"
    assert speeds.expected([Candidate(10, 0.0)])[0] > 1.5


class AskedError(Exception):
    """Somebody asked for a calibration."""


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Factory: `search(config, calibrate, stop)` runs a search up to its first trial."""

    def run(config, calibrate, stop=None):
        monkeypatch.setattr("autoprumux.api.calibrating.calibrate_first", calibrate)
        storage = f"sqlite:///{tmp_path / 'search.db'}"
        return run_search(config, storage=storage, cache_dir=tmp_path, stop=stop)

    def first_trial(*arguments, **options):
        raise NoBaselineError("Nothing is trained here.")

    monkeypatch.setattr("autoprumux.search.runner.run_study", first_trial)
    monkeypatch.setattr(TrainedEvaluator, "check", lambda self: None)
    monkeypatch.setattr(TrainedEvaluator, "data_fingerprint", "files:qnli:0")
    return run


def test_a_search_calibrates_before_its_first_trial_if_asked(search):
    told_to_stop = threading.Event()

    def calibrate(config, database, report, stop):
        assert stop is told_to_stop
        raise AskedError

    with pytest.raises(AskedError):
        search(CONFIG, calibrate, told_to_stop)
    with pytest.raises(NoBaselineError, match="Nothing is trained here"):
        search(replace(CONFIG, search=SearchConfig()), calibrate)


def test_a_calibration_that_is_to_stop_ends_before_its_next_pass(timers, database, told):
    stop = threading.Event()

    def stop_once_it_times(line):
        told.append(line)
        stop.set()

    with pytest.raises(KeyboardInterrupt):
        calibrate_first(CONFIG, database, stop_once_it_times, stop)

    assert told == ["timing 10 untrained models for at most 105 s"]
    calibrate_first(CONFIG, database, told.append)  # nothing was stored, so it is made now
    assert told[-1].startswith("calibrated as profile fake-b64: ")


def test_a_search_that_is_to_stop_while_a_calibration_is_looked_for_trains_nothing(search):
    stop = threading.Event()

    with pytest.raises(KeyboardInterrupt):
        search(CONFIG, lambda *_: stop.set(), stop)
