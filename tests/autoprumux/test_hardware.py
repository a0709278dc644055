import math
from dataclasses import replace

import pytest
from small_encoders import ENCODER

from autoprumux.answers import answer_budgets
from autoprumux.errors import NoBaselineError, UsageError
from autoprumux.hardware import calibrated_speeds_of, choose_profile, shape_of, study_on
from autoprumux.records import (
    Calibration,
    Candidate,
    DeviceProfile,
    ShapeTiming,
    StudyRecord,
    Throughput,
)
from autoprumux.surrogates.calibration_shapes import calibration_shapes
from autoprumux.surrogates.structure_latency import StructureLatency

PROFILE = DeviceProfile(
    name="server",
    device="cpu",
    processor="Imaginary 9000",
    dtype="float32",
    batch_size=8,
    length=64,
    num_threads=4,
)
LAW = StructureLatency(ENCODER, PROFILE.length, (0.5, 0.4, 0.1, 0.1, 0.1, 0.1), 0.05)
TIMED = calibration_shapes(ENCODER, (1, 2, 5, 10), PROFILE.length)


SPEEDUPS = ("throughput", "speedup", "speedup_q1", "speedup_q3")


def timings_by(law: StructureLatency) -> tuple[ShapeTiming, ...]:
    """Yield a calibration's timings of a device that obeys a law."""
    return tuple(
        ShapeTiming(shape=shape, seconds=share, seconds_q1=share, seconds_q3=share, share=share)
        for shape, share in zip(TIMED, law.shares(TIMED).tolist(), strict=True)
    )


CALIBRATION = Calibration(
    profile="server",
    encoder=ENCODER,
    coefficients=(9.0,) * 6,  # of an older law, which would not fit
    log_std=0.05,
    baseline_throughput=500.0,
    num_repeats=20,
    duration_s=60.0,
    timings=timings_by(LAW),
)


def times(study: StudyRecord, factor: float, *numbers: int) -> dict[int, Throughput]:
    """Yield throughputs of trials on another machine: the baseline's 500, speed-ups scaled."""
    found = {}
    for trial in study.trials:
        if trial.measurement is not None and trial.number in numbers:
            speedup = 1.0 if trial.candidate.is_baseline else factor * trial.measurement.speedup
            found[trial.number] = replace(
                trial.measurement.throughput,
                throughput=500.0 * speedup,
                baseline_throughput=500.0,
                speedup=speedup,
                speedup_q1=0.98 * speedup,
                speedup_q3=1.02 * speedup,
                batch_size=PROFILE.batch_size,
                length=PROFILE.length,
                num_threads=PROFILE.num_threads,
            )
    return found


def test_measured_speeds_of_a_profile_replace_the_trials_own(demo_study):
    numbers = [trial.number for trial in demo_study.trials[:-1]]

    found = study_on(demo_study, PROFILE, times(demo_study, 0.5, *numbers), [])

    assert found.predicted == frozenset()
    assert found.study.measured.keys() == demo_study.measured.keys()
    for candidate, before in demo_study.measured.items():
        after = found.study.measured[candidate]
        expected = 1.0 if candidate.is_baseline else 0.5 * before.speedup
        assert after.speedup == pytest.approx(expected)
        assert (after.accuracy, after.correctness) == (before.accuracy, before.correctness)
    assert found.study.trials[-1] == demo_study.trials[-1]


def test_a_calibration_predicts_the_models_that_were_not_timed(demo_study):
    found = study_on(demo_study, PROFILE, {}, [CALIBRATION])

    assert found.is_calibrated
    assert found.predicted == frozenset(demo_study.measured)
    law = StructureLatency.stored(CALIBRATION, PROFILE.length)
    shapes = [shape_of(c, m) for c, m in demo_study.measured.items()]
    assert law.shares(shapes) == pytest.approx(LAW.shares(shapes), rel=0.1)
    for candidate, measurement in found.study.measured.items():
        speed = measurement.throughput
        (expected,) = law.predict([shape_of(candidate, measurement)])
        assert speed.speedup == pytest.approx(math.exp(expected.mean))
        assert speed.throughput == pytest.approx(500.0 * speed.speedup)
        assert (speed.batch_size, speed.length, speed.num_threads) == (8, 64, 4)
        assert math.log(speed.speedup_q3 / speed.speedup_q1) == pytest.approx(
            1.349 * expected.std, rel=1e-3
        )


def test_measured_speeds_go_before_predicted_ones(demo_study):
    measured = times(demo_study, 0.5, 0, 1)

    found = study_on(demo_study, PROFILE, measured, [CALIBRATION])

    speeds = {c: m.throughput for c, m in found.study.measured.items()}
    assert speeds[demo_study.trials[1].candidate] == measured[1]
    assert len(found.predicted) == len(demo_study.measured) - 2


def test_without_a_calibration_the_law_of_latency_fills_the_gaps(demo_study):
    numbers = [trial.number for trial in demo_study.trials[:-2]]
    left_out = demo_study.trials[-2]

    found = study_on(demo_study, PROFILE, times(demo_study, 1.0, *numbers), [])

    assert found.predicted == {left_out.candidate}
    assert not found.is_calibrated
    predicted = found.study.measured[left_out.candidate].speedup
    assert predicted == pytest.approx(left_out.measurement.speedup, rel=0.3)


def test_the_latest_calibration_of_the_right_encoder_counts(demo_study):
    newer = replace(CALIBRATION, baseline_throughput=900.0)
    other = replace(CALIBRATION, encoder=replace(ENCODER, num_layers=6), baseline_throughput=1.0)

    found = study_on(demo_study, PROFILE, {}, [CALIBRATION, newer, other])

    assert found.study.baseline.throughput.throughput == pytest.approx(900.0)


@pytest.mark.parametrize(
    "changed", [{"num_layers": 6}, {"dense_hidden_size": 256}, {"multiplexer": "contextual"}]
)
def test_a_calibration_of_another_encoder_is_none(demo_study, changed):
    config = {**demo_study.config, "trainer": {"model": {"multiplexer": "gaussian_hadamard"}}}
    study = replace(demo_study, config=config)
    other = replace(CALIBRATION, encoder=replace(ENCODER, **changed))

    with pytest.raises(UsageError, match="Run `autoprumux bench qnli-embedded --calibrate --name"):
        study_on(study, PROFILE, {}, [other])


def test_answers_say_which_speeds_are_predicted(demo_study):
    found = study_on(demo_study, PROFILE, times(demo_study, 0.5, 0, 2), [CALIBRATION])

    answers = answer_budgets(found.study, [0.0, 0.02, 0.1], predicted_speeds=found.predicted)

    models = [a.best for a in answers if a.best]
    assert {m.speed_mark for m in models} == {"verified", "predicted"}
    for model in models:
        assert model.is_speed_measured == (model.candidate not in found.predicted)
    for model in (p for a in answers for p in a.predicted if p.is_verified):
        assert model.is_speed_measured == (model.candidate not in found.predicted)


def test_the_fastest_there_may_be_another_one_than_here(demo_study):
    numbers = [trial.number for trial in demo_study.trials]
    wide = {t.number for t in demo_study.trials if t.candidate.num_instances > 1}
    slow_muxing = {
        number: replace(timed, **{name: getattr(timed, name) / 10 for name in SPEEDUPS})
        if number in wide
        else timed
        for number, timed in times(demo_study, 1.0, *numbers).items()
    }
    (here,) = answer_budgets(demo_study, [0.1])

    (there,) = answer_budgets(study_on(demo_study, PROFILE, slow_muxing, []).study, [0.1])

    assert here.best.candidate.num_instances > 1
    assert there.best.candidate.num_instances == 1


OTHER = replace(PROFILE, name="laptop", batch_size=8, length=32)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, None),
        ({"batch_size": 64, "length": 32}, None),
        ({"name": "server"}, PROFILE),
        ({"length": 64}, PROFILE),
        ({"batch_size": 8, "length": 32}, OTHER),
        ({"name": "laptop", "batch_size": 8}, OTHER),
    ],
)
def test_a_question_finds_the_stored_setting(demo_study, asked, expected):
    assert choose_profile(demo_study, [OTHER, PROFILE], **asked) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "phone"}, "`--device-profile` 'phone' is unknown; stored are `laptop` .*bench`"),
        ({"batch_size": 8}, "Several profiles fit: `laptop`, `server`. Choose one with"),
        (
            {"batch_size": 3},
            "No stored speeds have `--batch-size` 3; the study's own have ",
        ),
        ({"name": "server", "length": 32}, "No stored speeds have `--length` 32; .* `laptop`"),
    ],
)
def test_a_setting_that_is_not_stored_is_refused_with_those_that_are(demo_study, asked, message):
    with pytest.raises(UsageError, match=message):
        choose_profile(demo_study, [OTHER, PROFILE], **asked)


def test_without_any_profile_the_way_out_is_named(demo_study):
    with pytest.raises(UsageError, match="no device profiles are stored"):
        choose_profile(demo_study, [], name="server")


def test_a_study_without_its_baseline_is_refused(demo_study):
    broken = replace(demo_study, trials=demo_study.trials[1:])

    with pytest.raises(NoBaselineError, match="no measured dense baseline"):
        choose_profile(broken, [PROFILE], name="server")
    assert Candidate(1, 0.0) not in broken.measured


def test_the_last_calibration_of_the_studys_encoder_tells_speeds(demo_study):
    later = replace(CALIBRATION, profile="later")
    other = replace(CALIBRATION, profile="other", encoder=replace(ENCODER, demultiplexer="prefix"))
    wider = replace(CALIBRATION, encoder=replace(ENCODER, dense_hidden_size=256))
    config = {**demo_study.config, "trainer": {"model": {"demultiplexer": "rsa"}}}

    def speeds_with(*calibrations):
        study = replace(demo_study, config=config, calibrations=calibrations)
        return calibrated_speeds_of(study)

    assert speeds_with(CALIBRATION, later, other, wider).profile == "later"
    assert speeds_with(other, wider) is None
    assert speeds_with() is None
    untrained = replace(demo_study, trials=demo_study.trials[1:], calibrations=(CALIBRATION,))
    assert calibrated_speeds_of(untrained) is None
