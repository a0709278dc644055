from dataclasses import replace

import pytest

from autoprumux.errors import MixedDevicesError, NoBaselineError, TooFewTrialsError
from autoprumux.records import Candidate
from autoprumux.surrogates.related import Others, OtherStudy
from autoprumux.validation.study import validate_study

ROW = {(2, s): (0.89, 3.0) for s in (0.6, 0.7, 0.8)}


def test_the_smallest_study_has_both_tables(make_validated_study):
    validation = validate_study(make_validated_study(ROW))

    assert validation.num_fitted == 4
    assert {row.num_points for row in validation.errors} == {3}
    assert {row.points for row in validation.errors} == {"left out"}
    assert [row.points for row in validation.hits] == ["all"] * 3


def test_unseen_points_are_told_apart(make_validated_study):
    validation = validate_study(make_validated_study(ROW | {(2, 0.65): (0.89, 3.0)}))

    assert validation.num_fitted == 4
    assert {(row.points, row.num_points) for row in validation.errors} == {
        ("left out", 3),
        ("unseen", 1),
    }
    assert [row.points for row in validation.hits] == ["all"] * 3 + ["unseen"] * 3


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        ({}, 0),
        ({(2, 0.6): (0.9, 2.0), (2, 0.7): (0.9, 2.0), (5, 0.6): (0.8, 4.0)}, 2),
        ({(2, 0.6): (0.9, 2.0), (2, 0.7): (0.9, 2.0), (2, 0.75): (0.9, 2.0)}, 2),
        ({(1, s): (0.9, 2.0) for s in (0.6, 0.7, 0.8)}, 0),
        ({(n, 0.0): (0.9, 2.0) for n in (2, 5, 10)}, 0),
    ],
)
def test_a_study_that_is_too_small_is_refused(make_validated_study, values, longest):
    with pytest.raises(TooFewTrialsError, match=rf"`qnli-embedded` .* the fullest has {longest}"):
        validate_study(make_validated_study(values))


def test_a_study_without_a_baseline_is_refused(make_validated_study):
    study = make_validated_study(ROW)

    with pytest.raises(NoBaselineError, match="`qnli-embedded` has no measured dense baseline"):
        validate_study(replace(study, trials=study.trials[1:]))


def test_the_table_is_that_of_qqp_on_the_same_device(make_validated_study):
    study = make_validated_study(ROW)
    others = [
        make_validated_study(ROW, task="sst2", name="sst2"),
        make_validated_study(ROW, task="qqp", name="qqp"),
    ]

    assert validate_study(study, [study, *others]).table_of == "qqp"
    assert validate_study(study, [study, others[0]]).table_of == "sst2"
    assert validate_study(study, [study]).table_of == study.name


def test_speeds_of_another_device_are_no_table(make_validated_study):
    study = make_validated_study(ROW)
    other = make_validated_study(ROW, task="qqp", name="qqp")
    trials = []
    for trial in other.trials:
        speed = replace(trial.measurement.throughput, device="cuda")
        trials.append(replace(trial, measurement=replace(trial.measurement, throughput=speed)))

    validation = validate_study(study, [study, replace(other, trials=tuple(trials))])

    assert validation.table_of == study.name


@pytest.mark.parametrize("processor", ["Old 1", "New 2"])
def test_speeds_of_another_processor_are_no_table_and_no_part_of_a_study(
    make_validated_study, processor
):
    def on(study, *processors):
        trials = [
            replace(t, measurement=replace(t.measurement, environment={"processor": p}))
            for t, p in zip(study.trials, processors, strict=True)
        ]
        return replace(study, trials=tuple(trials))

    rest = ["Old 1"] * (len(ROW))
    study = on(make_validated_study(ROW), "Old 1", *rest)
    other = make_validated_study(ROW, task="qqp", name="qqp")
    others = [on(other, *[processor] * len(other.trials))]

    is_alike = processor == "Old 1"
    assert validate_study(study, others).table_of == ("qqp" if is_alike else study.name)
    if not is_alike:
        with pytest.raises(MixedDevicesError, match=r"'Old 1', trial 1 with `processor` 'New 2' "):
            validate_study(on(study, "Old 1", processor, processor, *rest[2:]))


def test_failures_are_counted(demo_study, make_validated_study):
    study = make_validated_study(ROW)
    failed = replace(demo_study.trials[-1], number=99)

    assert validate_study(replace(study, trials=(*study.trials, failed))).num_failed == 1


def named(validation, surrogate: str, target: str = "accuracy"):
    rows = [r for r in validation.errors if (r.surrogate, r.target) == (surrogate, target)]
    return [error.predicted for row in rows for error in row.errors]


def test_failed_cells_are_told_to_the_performance_model_but_for_unseen_ones(
    demo_study, make_validated_study
):
    study = make_validated_study(ROW | {(5, 0.6): (0.87, 6.0), (5, 0.65): (0.86, 6.5)})
    failed = next(t for t in demo_study.trials if t.failure is not None)
    diverged = replace(failed, number=99, failure=replace(failed.failure, cause="nan"))

    def predicted(candidate):
        trial = replace(diverged, candidate=candidate)
        return named(
            validate_study(replace(study, trials=(*study.trials, trial))), "performance model"
        )

    plain = named(validate_study(study), "performance model")
    told, unseen = predicted(Candidate(5, 0.0)), predicted(Candidate(5, 0.65))

    assert told != plain
    assert unseen == plain


def test_what_was_stopped_is_told_to_the_performance_model(demo_study, make_validated_study):
    study = make_validated_study(ROW | {(10, 0.9): (0.6, 20.0)})
    failed = next(t for t in demo_study.trials if t.failure is not None)
    failure = replace(failed.failure, cause="hopeless", reachable_accuracy=0.70)
    trial = replace(failed, number=99, candidate=Candidate(10, 0.0), failure=failure)

    told = validate_study(replace(study, trials=(*study.trials, trial)))

    assert named(told, "performance model") != named(validate_study(study), "performance model")


def test_other_tasks_as_a_prior_are_one_more_pair(make_validated_study):
    losses = {Candidate(n, s): 0.02 * n for n in (2, 5, 10) for s in (0.0, 0.6, 0.8)}
    prior = Others([OtherStudy(name="qqp", losses=losses, noise_std=0.005, log_speedups={})])
    study = make_validated_study(ROW)

    surrogates = {row.surrogate for row in validate_study(study, (), prior).errors}

    assert "performance model + prior" in surrogates
    assert named(validate_study(study, (), prior), "performance model + prior") != named(
        validate_study(study), "performance model"
    )
    assert not named(validate_study(study), "performance model + prior")
