from collections.abc import Callable
from dataclasses import replace

import pytest
from small_encoders import ENCODER

from autoprumux.errors import StorageError, UsageError
from autoprumux.records import (
    Calibration,
    Candidate,
    Choice,
    DeviceProfile,
    EncoderShape,
    ShapeTiming,
    StudyRecord,
    Throughput,
)
from autoprumux.storage.access import stored_rows
from autoprumux.storage.calibrations import with_calibrations
from autoprumux.storage.database import Database
from autoprumux.storage.profiles import ProfileRepository
from autoprumux.storage.reading import (
    read_calibrations,
    read_profile_throughputs,
    read_profiles,
    read_study,
)
from autoprumux.storage.repository import Repository, rows_of

PROFILE = DeviceProfile(
    name="laptop",
    device="cpu",
    processor="Imaginary 9000",
    dtype="float32",
    batch_size=64,
    length=32,
    num_threads=2,
)
TIMING = ShapeTiming(
    shape=EncoderShape(1, 128, (4, 4), (512, 0)),
    seconds=0.03,
    seconds_q1=0.029,
    seconds_q3=0.033,
    share=1.0,
)
CALIBRATION = Calibration(
    profile="laptop",
    encoder=replace(ENCODER, num_layers=2),
    coefficients=(0.5, 0.25),
    log_std=0.05,
    baseline_throughput=2100.0,
    num_repeats=20,
    duration_s=12.0,
    timings=(TIMING, replace(TIMING, shape=EncoderShape(5, 120, (1, 0), (0, 9)), share=0.4)),
)


@pytest.fixture
def profiles(demo_database: Database) -> ProfileRepository:
    return ProfileRepository(demo_database)


@pytest.fixture
def throughput(demo_study: StudyRecord) -> Throughput:
    """That of the demo study's second trial, on a machine twice as fast."""
    measurement = demo_study.trials[1].measurement
    assert measurement is not None
    return replace(measurement.throughput, throughput=5000.0, speedup=2.5)


def test_the_latest_throughput_of_a_profile_counts_and_the_study_stays(
    profiles: ProfileRepository,
    demo_database: Database,
    demo_study: StudyRecord,
    throughput: Throughput,
) -> None:
    later = replace(throughput, throughput=5500.0)
    other = replace(PROFILE, name="server", num_threads=8)

    profiles.save_throughputs(PROFILE, demo_study.name, [(0, throughput), (1, throughput)])
    profiles.save_throughputs(other, demo_study.name, [(1, throughput)])
    profiles.save_throughputs(PROFILE, demo_study.name, [(1, later)])

    with demo_database.read() as connection:
        rows = rows_of(connection)
        assert read_profiles(rows) == [PROFILE, other]
        found = read_profile_throughputs(rows, demo_study.name, "laptop")
    assert found == {0: throughput, 1: later}
    assert Repository(demo_database).load_study() == demo_study


def test_a_calibration_is_read_as_it_was_stored_by_either_way(
    profiles: ProfileRepository, demo_database: Database, storage_url: str
) -> None:
    later = replace(CALIBRATION, log_std=0.04)

    profiles.save_calibration(PROFILE, CALIBRATION)
    profiles.save_calibration(PROFILE, later)

    with demo_database.read() as connection:
        assert read_calibrations(rows_of(connection), "laptop") == [CALIBRATION, later]
    with stored_rows(storage_url) as (rows, _):
        assert read_calibrations(rows, "laptop") == [CALIBRATION, later]
        assert read_calibrations(rows, "server") == []


@pytest.mark.parametrize(
    ("changed", "is_own"),
    [({}, True), ({"num_threads": 4}, False), ({"batch_size": 1}, False), ({"length": 8}, False)],
)
def test_a_study_has_the_calibrations_of_its_own_setting(
    profiles: ProfileRepository,
    demo_database: Database,
    storage_url: str,
    changed: dict[str, int],
    is_own: bool,
) -> None:
    profile: DeviceProfile = replace(PROFILE, **changed)  # type: ignore[arg-type]
    profiles.save_calibration(profile, CALIBRATION)
    profiles.save_calibration(profile, later := replace(CALIBRATION, log_std=0.04))

    expected = (CALIBRATION, later) if is_own else ()
    assert Repository(demo_database).load_study().calibrations == expected
    with stored_rows(storage_url) as (rows, place):
        study = read_study(rows, place, None, None, is_brief=True)
        assert with_calibrations(rows, study).calibrations == expected


def test_a_study_that_is_searched_keeps_the_calibrations_that_it_began_with(
    profiles: ProfileRepository, demo_database: Database, demo_study: StudyRecord
) -> None:
    repository = Repository(demo_database)
    assert repository.load_study(demo_study.name).calibrations == ()

    profiles.save_calibration(PROFILE, CALIBRATION)
    repository.save_start(demo_study.name, 99, Candidate(10, 0.95), 0, Choice(reason="later"))

    assert repository.load_study(demo_study.name).calibrations == ()
    assert Repository(demo_database).load_study(demo_study.name).calibrations == (CALIBRATION,)


@pytest.mark.parametrize(
    "changed", [{"num_threads": 4}, {"batch_size": 1}, {"processor": "Other"}]
)
def test_a_name_that_stands_for_another_setting_is_refused(
    profiles: ProfileRepository,
    demo_study: StudyRecord,
    throughput: Throughput,
    changed: dict[str, object],
) -> None:
    profiles.save_throughputs(PROFILE, demo_study.name, [(0, throughput)])
    other: DeviceProfile = replace(PROFILE, **changed)  # type: ignore[arg-type]

    for refused in (
        lambda: profiles.require_same(other),
        lambda: profiles.save_throughputs(other, demo_study.name, [(0, throughput)]),
        lambda: profiles.save_calibration(other, CALIBRATION),
    ):
        with pytest.raises(UsageError, match=r"Profile `laptop` stands for .*`--name`\."):
            refused()


def test_the_throughput_of_a_trial_that_is_not_measured_is_refused_and_nothing_stored(
    profiles: ProfileRepository,
    demo_database: Database,
    demo_study: StudyRecord,
    throughput: Throughput,
) -> None:
    failed = demo_study.trials[-1].number

    with pytest.raises(StorageError, match=f"Trial {failed} of study .* has no stored"):
        profiles.save_throughputs(
            PROFILE, demo_study.name, [(0, throughput), (failed, throughput)]
        )

    with demo_database.read() as connection:
        assert read_profiles(rows_of(connection)) == []


def test_a_number_that_is_not_finite_is_refused(
    profiles: ProfileRepository, demo_study: StudyRecord, throughput: Throughput
) -> None:
    with pytest.raises(StorageError, match="`speedup` of the throughput of trial 0"):
        profiles.save_throughputs(
            PROFILE, demo_study.name, [(0, replace(throughput, speedup=float("nan")))]
        )


def test_throughputs_belong_to_their_study(
    profiles: ProfileRepository,
    demo_database: Database,
    demo_study: StudyRecord,
    store: Callable[[Repository, StudyRecord], None],
    throughput: Throughput,
) -> None:
    store(Repository(demo_database), replace(demo_study, name="other"))

    profiles.save_throughputs(PROFILE, "other", [(1, throughput)])

    with demo_database.read() as connection:
        rows = rows_of(connection)
        assert read_profile_throughputs(rows, demo_study.name, "laptop") == {}
        assert set(read_profile_throughputs(rows, "other", "laptop")) == {1}
