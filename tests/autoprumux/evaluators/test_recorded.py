from dataclasses import replace

import pytest

from autoprumux.errors import InputError, MixedDevicesError, TrialError
from autoprumux.evaluators.base import Evaluator
from autoprumux.evaluators.recorded import START_PHASES, RecordedEvaluator
from autoprumux.evaluators.recording import record_studies
from autoprumux.records import Candidate, PhaseRecord
from autoprumux.search import cost

BASELINE, FAILED = Candidate(1, 0.0), Candidate(5, 0.9)


def ignore(name, value, step):
    """A report that nobody reads."""


def make_evaluator(*studies) -> RecordedEvaluator:
    return RecordedEvaluator(record_studies(studies, name="small", recorded="2026-11-23"))


def test_it_is_an_evaluator(make_recorded_study):
    evaluator: Evaluator = make_evaluator(make_recorded_study())

    evaluator.check()

    assert evaluator.data_fingerprint == "builtin:qnli:0123"
    assert evaluator.cached_widths() == frozenset()


def test_every_candidate_yields_what_its_study_measured(make_recorded_study):
    study = make_recorded_study()
    evaluator = make_evaluator(study)

    for candidate, measured in study.measured.items():
        replayed = evaluator.evaluate(candidate, 0, ignore)

        phases = tuple(replace(phase, history=()) for phase in measured.phases)
        assert replayed.phases == phases
        assert replayed.duration_s == pytest.approx(measured.duration_s)
        for name in ("accuracy", "accuracy_std", "throughput", "structure", "sparsity", "seed"):
            assert getattr(replayed, name) == getattr(measured, name)


def test_a_failure_is_replayed_with_its_cause_and_last_accuracy(make_recorded_study):
    reported = []

    with pytest.raises(TrialError, match=r"N=5 s=0\.90 was set to fail") as raised:
        make_evaluator(make_recorded_study()).evaluate(
            FAILED, 0, lambda name, value, step: reported.append((name, value))
        )

    assert raised.value.cause == "sparsity_not_reached"
    assert reported == [("prune/held_out_accuracy", 0.55)]


def test_a_seed_chooses_among_the_recorded_seeds(make_recorded_study):
    studies = [make_recorded_study(seed=0), make_recorded_study(seed=1)]
    candidate = Candidate(2, 0.6)
    recorded = {study.measured[candidate].accuracy for study in studies}

    by_seed = [make_evaluator(*studies).evaluate(candidate, s, ignore).accuracy for s in range(20)]
    again = [make_evaluator(*studies).evaluate(candidate, s, ignore).accuracy for s in range(20)]

    assert len(recorded) == 2
    assert set(by_seed) == recorded
    assert by_seed == again


def test_a_candidate_that_is_not_recorded_ends_the_search(make_recorded_study):
    with pytest.raises(InputError, match=r"`small` has no trial of N=10 s=0\.60; it has 9 cand"):
        make_evaluator(make_recorded_study()).evaluate(Candidate(10, 0.6), 0, ignore)


def test_a_recording_without_a_baseline_is_refused(make_recorded_study):
    evaluator = make_evaluator(make_recorded_study())
    trials = tuple(t for t in evaluator.recording.trials if t.candidate != BASELINE)

    with pytest.raises(InputError, match=r"`small` has no measured dense baseline \(N=1 s=0"):
        RecordedEvaluator(replace(evaluator.recording, trials=trials)).check()


def test_a_recording_of_two_devices_is_refused_with_the_trial(make_recorded_study):
    evaluator = make_evaluator(make_recorded_study(seed=0), make_recorded_study(seed=1))
    *rest, last = (t for t in evaluator.recording.trials if t.measurement)
    speed = replace(last.measurement.throughput, device="H200")
    moved = replace(last, measurement=replace(last.measurement, throughput=speed))
    mixed = replace(evaluator.recording, trials=(*rest, moved))

    with pytest.raises(
        MixedDevicesError, match=r"`small` was .* N=5 s=0.60 seed 1 with `device` 'H2"
    ):
        RecordedEvaluator(mixed).check()


def test_phases_that_a_width_shares_cost_their_time_once(make_recorded_study):
    evaluator = make_evaluator(make_recorded_study())
    evaluator.evaluate(BASELINE, 0, ignore)

    first = evaluator.evaluate(Candidate(2, 0.0), 0, ignore)
    second = evaluator.evaluate(Candidate(2, 0.0), 0, ignore)

    assert first.duration_s > 1.0
    assert second.duration_s == pytest.approx(0.0, abs=1e-9)
    assert all(phase.is_cached for phase in second.phases)
    assert evaluator.cached_widths() == {1, 2}


def test_the_teacher_of_a_wide_model_is_paid_with_the_baseline(make_recorded_study):
    study = make_recorded_study()
    evaluator = make_evaluator(study)
    teacher = PhaseRecord(
        name="finetune", num_updates=400, duration_s=24.0, memory_mib=300.0, is_cached=True
    )
    trials = [
        replace(t, measurement=replace(t.measurement, phases=(teacher, *t.measurement.phases)))
        if t.candidate == Candidate(2, 0.0)
        else t
        for t in study.trials
    ]
    evaluator = make_evaluator(replace(study, trials=tuple(trials)))
    evaluator.evaluate(BASELINE, 0, ignore)

    wide = evaluator.evaluate(Candidate(2, 0.0), 0, ignore)

    assert [(p.name, p.is_cached) for p in wide.phases] == [
        ("finetune", True),
        ("prime", False),
        ("pretrain", False),
        ("finetune", False),
    ]


def test_search_and_evaluator_agree_on_the_phases_that_a_width_shares():
    assert START_PHASES == cost.START_PHASES
