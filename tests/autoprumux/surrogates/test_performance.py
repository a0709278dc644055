import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.errors import NoBaselineError
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.records import (
    Candidate,
    Failure,
    Measurement,
    Structure,
    StudyRecord,
    Throughput,
    TrialRecord,
)
from autoprumux.surrogates.forecasts import normal_cdf
from autoprumux.surrogates.noise import measurement_variance
from autoprumux.surrogates.performance import (
    COLLAPSED,
    PerformanceModel,
    telling_failures,
)
from autoprumux.surrogates.related import Others, OtherStudy

WIDTHS = (1, 2, 5, 10)
SPARSITIES = (0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
GRID = [Candidate(n, s) for n in WIDTHS for s in SPARSITIES]
BASELINE = Candidate(1, 0.0)


quick = settings(deadline=None, max_examples=40)
"""Every example fits surrogates; a busy machine may take long over one."""


def measurement(accuracy: float, speedup: float, num_examples: int = 4000) -> Measurement:
    throughput = Throughput(
        throughput=1000.0 * speedup,
        throughput_q1=990.0 * speedup,
        throughput_q3=1010.0 * speedup,
        baseline_throughput=1000.0,
        speedup=speedup,
        speedup_q1=0.99 * speedup,
        speedup_q3=1.01 * speedup,
        num_repeats=20,
        batch_size=32,
        length=64,
        dtype="float32",
        device="cpu",
        num_threads=2,
    )
    structure = Structure(
        hidden_size=128,
        head_counts=(2,),
        feedforward_sizes=(512,),
        num_encoder_parameters=1000,
        num_parameters=2000,
    )
    return Measurement(
        accuracy=accuracy,
        accuracy_std=0.0,
        num_examples=num_examples,
        num_compositions=1,
        correctness=b"",
        throughput=throughput,
        sparsity=0.0,
        structure=structure,
        phases=(),
        duration_s=1.0,
        checkpoint="",
        seed=0,
    )


MEASURED = {
    BASELINE: measurement(0.90, 1.0),
    Candidate(2, 0.8): measurement(0.87, 4.0),
    Candidate(1, 0.9): measurement(0.88, 3.0),
    Candidate(5, 0.0): measurement(0.85, 4.5),
}


UNMEASURED = [c for c in GRID if c not in MEASURED]


def fitted(
    measured: dict[Candidate, Measurement], failed: tuple[Candidate, ...] = ()
) -> PerformanceModel:
    return PerformanceModel.from_measured(measured, dict.fromkeys(failed, COLLAPSED), GRID)


def is_within(small: Candidate, large: Candidate) -> bool:
    return small.num_instances <= large.num_instances and small.sparsity <= large.sparsity


def test_without_the_baseline_nothing_can_be_compared() -> None:
    with pytest.raises(NoBaselineError, match="need the dense baseline"):
        fitted({Candidate(2, 0.0): measurement(0.88, 2.0)})


@pytest.mark.parametrize(
    "measured", [{BASELINE: MEASURED[BASELINE]}, MEASURED], ids=["baseline only", "four"]
)
def test_every_candidate_of_the_grid_is_predicted(measured: dict[Candidate, Measurement]) -> None:
    predictions = fitted(measured).predict(GRID)

    assert [p.candidate for p in predictions] == GRID
    for prediction in predictions:
        assert 0.0 <= prediction.accuracy <= 1.0
        assert prediction.speedup > 0.0
        if prediction.candidate not in measured:
            assert prediction.accuracy_std > 0.0
            assert prediction.log_speedup_std > 0.0


def test_a_candidate_off_the_grid_is_predicted_too() -> None:
    (prediction,) = fitted(MEASURED).predict([Candidate(3, 0.5)])

    assert 0.8 < prediction.accuracy < 0.9


def test_measured_candidates_are_predicted_as_measured() -> None:
    for prediction in fitted(MEASURED).predict(list(MEASURED)):
        known = MEASURED[prediction.candidate]
        noise = math.sqrt(known.accuracy * (1.0 - known.accuracy) / known.num_examples)
        assert prediction.is_measured
        assert prediction.accuracy == known.accuracy
        assert prediction.accuracy_std == pytest.approx(noise)
        assert prediction.speedup == known.speedup


def test_between_close_neighbours_accuracy_is_between_theirs() -> None:
    corners = {
        Candidate(2, 0.6): measurement(0.88, 3.0),
        Candidate(2, 0.7): measurement(0.87, 3.5),
        Candidate(5, 0.6): measurement(0.86, 6.0),
        Candidate(5, 0.7): measurement(0.84, 7.0),
    }
    model = fitted({BASELINE: MEASURED[BASELINE], **corners})

    on_row, inside = model.predict([Candidate(2, 0.65), Candidate(3, 0.65)])

    assert on_row.accuracy == pytest.approx(0.875, abs=0.003)
    assert inside.accuracy == pytest.approx(0.868, abs=0.005)
    assert not inside.is_extrapolated


def test_across_a_wide_cell_the_knee_of_the_pruning_curve_is_kept() -> None:
    # A straight line from s = 0 to 0.95 would put half of the collapse on s = 0.6.
    model = fitted({BASELINE: MEASURED[BASELINE], Candidate(1, 0.95): measurement(0.70, 5.0)})

    (middle,) = model.predict([Candidate(1, 0.6)])

    assert middle.accuracy_loss < 0.5 * 0.20 * 0.6 / 0.95


def test_candidates_that_no_measured_points_surround_are_flagged() -> None:
    model = fitted(MEASURED)

    inside, outside = model.predict([Candidate(1, 0.7), Candidate(10, 0.9)])

    assert not inside.is_extrapolated
    assert outside.is_extrapolated


@quick
@given(
    accuracies=st.lists(st.floats(0.5, 0.95), min_size=3, max_size=3),
    speedups=st.lists(st.floats(0.8, 30.0), min_size=3, max_size=3),
)
def test_no_prediction_beats_a_smaller_measured_candidate_beyond_noise(
    accuracies: list[float], speedups: list[float]
) -> None:
    candidates = [Candidate(2, 0.0), Candidate(1, 0.8), Candidate(5, 0.9)]
    values = zip(accuracies, speedups, strict=True)
    measured = {c: measurement(*v) for c, v in zip(candidates, values, strict=True)}
    model = fitted({BASELINE: MEASURED[BASELINE], **measured})
    measured[BASELINE] = MEASURED[BASELINE]
    for prediction in model.predict(GRID):
        if prediction.is_measured:
            continue
        for known, value in measured.items():
            if is_within(known, prediction.candidate):
                variances = [measurement_variance(m) for m in (value, MEASURED[BASELINE])]
                allowance = 3.0 * math.sqrt(sum(variances))
                assert prediction.accuracy <= value.accuracy + allowance + 1e-9


PRIOR = Others(
    [
        OtherStudy(
            name="another task",
            losses={
                Candidate(10, 0.0): 0.02,
                Candidate(5, 0.0): 0.08,
                Candidate(2, 0.8): 0.09,
                Candidate(1, 0.95): 0.01,
            },
            noise_std=0.004,
            log_speedups={},
        )
    ]
)
"""Its losses fall with N."""

studies = st.dictionaries(
    st.sampled_from([c for c in GRID if not c.is_baseline]), st.floats(0.4, 0.95), max_size=12
)


@quick
@given(accuracies=studies)
@pytest.mark.parametrize("others", [None, PRIOR], ids=["alone", "with a prior"])
def test_expected_losses_never_fall_with_width_or_sparsity(
    accuracies: dict[Candidate, float], others: Others | None
) -> None:
    measured = {c: measurement(a, 2.0 * c.num_instances) for c, a in accuracies.items()}
    measured[BASELINE] = MEASURED[BASELINE]
    model = PerformanceModel.from_measured(measured, {}, GRID, others=others)
    found = [p for p in model.predict(GRID) if not p.is_measured]
    least = min([0.0, *(0.9 - accuracy for accuracy in accuracies.values())])

    for small in found:
        assert small.accuracy_loss >= least - 1e-9
        for large in found:
            if is_within(small.candidate, large.candidate):
                assert small.accuracy_loss <= large.accuracy_loss + 1e-12


@pytest.mark.parametrize("others", [None, PRIOR], ids=["alone", "with a prior"])
def test_a_prediction_does_not_depend_on_what_is_asked_beside_it(others: Others | None) -> None:
    asked = [*GRID, Candidate(3, 0.5), Candidate(4, 0.78)]

    def made() -> PerformanceModel:
        return PerformanceModel.from_measured(MEASURED, {}, GRID, others=others)

    together, backwards = made().predict(asked), made().predict(asked[::-1])[::-1]
    alone = [made().predict([candidate])[0] for candidate in asked]

    assert together == backwards
    for one, other in zip(together, alone, strict=True):
        assert one.accuracy_loss == pytest.approx(other.accuracy_loss, abs=1e-12)
        assert one.accuracy_loss_std == pytest.approx(other.accuracy_loss_std, abs=1e-12)


def test_chances_asked_together_are_those_asked_one_by_one() -> None:
    budgets = (0.0, 0.01, 0.03, 0.3)
    asked = [*GRID, Candidate(3, 0.5)]

    together = fitted(MEASURED).chances_within(asked, budgets)
    alone = [[fitted(MEASURED).chance_within(c, budget) for c in asked[::6]] for budget in budgets]

    assert together.shape == (4, len(asked))
    assert together[:, ::6] == pytest.approx(np.array(alone), abs=1e-12)


def test_losses_below_0_are_expected_only_where_they_were_measured() -> None:
    near = [Candidate(1, 0.6), Candidate(1, 0.65)]
    better = {BASELINE: MEASURED[BASELINE], Candidate(1, 0.7): measurement(0.93, 2.0)}

    usual, surprised = (fitted(m).predict(near) for m in (MEASURED, better))

    assert all(p.accuracy_loss >= 0.0 for p in usual)
    assert all(-0.03 <= p.accuracy_loss < 0.0 for p in surprised)


def test_uncertainty_grows_with_the_distance_to_the_measured_points() -> None:
    model = fitted({BASELINE: MEASURED[BASELINE], Candidate(2, 0.6): measurement(0.88, 3.0)})

    stds = [p.accuracy_std for p in model.predict([Candidate(2, s) for s in SPARSITIES[1:]])]

    assert stds == sorted(stds)
    assert stds[-1] > 3.0 * stds[0]


def test_a_measurement_narrows_the_predictions_around_it() -> None:
    before = fitted({BASELINE: MEASURED[BASELINE]}).predict([Candidate(2, 0.75)])[0]
    after = fitted(MEASURED).predict([Candidate(2, 0.75)])[0]

    assert after.accuracy_loss_std < 0.6 * before.accuracy_loss_std
    assert after.log_speedup_std < 0.6 * before.log_speedup_std


def test_few_validation_examples_widen_the_predictions() -> None:
    few = PerformanceModel.from_measured(MEASURED, {}, UNMEASURED, validation_size=100)
    predictions = fitted(MEASURED).predict(UNMEASURED), few.predict(UNMEASURED)

    for narrow, wide in zip(*predictions, strict=True):
        assert wide.accuracy_std > narrow.accuracy_std


def test_a_measurement_counts_by_its_own_number_of_examples() -> None:
    coarse = {c: replace(m, num_examples=400) for c, m in MEASURED.items()}
    beside = Candidate(2, 0.75)
    many, few = (
        PerformanceModel.from_measured(known, {}, GRID, validation_size=4000)
        for known in (MEASURED, coarse | {BASELINE: MEASURED[BASELINE]})
    )

    for candidate in (beside, Candidate(2, 0.8)):
        narrow, wide = (model.predict([candidate])[0].accuracy_std for model in (many, few))
        assert wide > 1.05 * narrow


def test_more_compositions_narrow_the_interval() -> None:
    def composed(num: int) -> PerformanceModel:
        known = {
            c: replace(m, accuracy_std=0.004, num_compositions=num) if c != BASELINE else m
            for c, m in MEASURED.items()
        }
        return fitted(known)

    for candidate in (Candidate(2, 0.75), Candidate(2, 0.8)):
        once, often = (composed(num).predict([candidate])[0].accuracy_std for num in (1, 10))
        assert often < 0.99 * once


@pytest.mark.parametrize("accuracy", [0.87, 1.0])
def test_examples_that_nobody_counted_are_as_many_as_assumed(accuracy: float) -> None:
    bare = {BASELINE: measurement(0.9, 1.0, 0), Candidate(2, 0.8): measurement(accuracy, 4.0, 0)}
    told = {c: replace(m, num_examples=1000) for c, m in bare.items()}

    assumed, known = (
        PerformanceModel.from_measured(m, {}, GRID, validation_size=1000).predict(GRID)
        for m in (bare, told)
    )

    assert assumed == known


def test_a_failure_lowers_larger_candidates_and_no_others() -> None:
    failed = Candidate(5, 0.9)
    plain, warned = fitted(MEASURED), fitted(MEASURED, (failed,))

    for candidate in GRID:
        before, after = (m.chance_within(candidate, 0.05) for m in (plain, warned))
        if is_within(failed, candidate):
            assert after <= 0.11 * before + 1e-12
            assert warned.predict([candidate])[0].accuracy_loss >= 0.1 - 1e-9
        else:
            assert after == before


@quick
@given(budgets=st.lists(st.floats(-0.05, 0.5), min_size=2, max_size=2).map(sorted))
@pytest.mark.parametrize("candidate", [BASELINE, Candidate(2, 0.8), Candidate(5, 0.95)], ids=str)
def test_a_bigger_budget_is_never_less_likely_to_be_met(
    candidate: Candidate, budgets: list[float]
) -> None:
    model = fitted(MEASURED)

    low, high = (model.chance_within(candidate, budget) for budget in budgets)

    assert 0.0 <= low <= high <= 1.0


@pytest.mark.parametrize(("budget", "chance"), [(0.0, 1.0), (0.02, 1.0), (-0.001, 0.0)])
def test_the_baseline_meets_every_budget_but_negative_ones(budget: float, chance: float) -> None:
    assert fitted(MEASURED).chance_within(BASELINE, budget) == chance


def test_a_candidate_beyond_a_measured_one_over_budget_has_no_chance() -> None:
    # (5, 0) loses 5 points, far more than its noise above 2.
    assert fitted(MEASURED).chance_within(Candidate(10, 0.6), 0.02) == 0.0


KNEE = {
    BASELINE: measurement(0.948, 1.0),
    Candidate(1, 0.7): measurement(0.947, 2.3),
    Candidate(1, 0.85): measurement(0.952, 4.1),
    Candidate(1, 0.95): measurement(0.831, 15.4),
    Candidate(10, 0.0): measurement(0.805, 9.6),
}
"""What searches of the built-in qnli measure; (1, 0.90) then had 0.946, no loss."""


def test_between_a_small_and_a_large_loss_there_may_be_a_knee() -> None:
    model = fitted(KNEE)

    chance = model.chance_within(Candidate(1, 0.9), 0.02)

    assert 0.2 < chance < 0.9


def test_a_loss_above_that_of_a_larger_candidate_is_impossible_beyond_noise() -> None:
    model = fitted(KNEE)
    between = model.predict([Candidate(1, 0.9)])[0]

    chances = [model.chance_within(Candidate(1, 0.9), b) for b in (0.0, between.most_loss, 0.5)]

    assert chances[0] < 0.4
    assert chances[1:] == pytest.approx([1.0, 1.0])


def test_beyond_all_measured_points_losses_are_cut_off_below_only() -> None:
    model = fitted(KNEE)
    beyond = model.predict([Candidate(10, 0.95)])[0]

    assert beyond.least_loss > 0.1
    assert beyond.most_loss == math.inf
    assert model.chance_within(Candidate(10, 0.95), beyond.least_loss - 0.001) == 0.0
    assert 0.0 < model.chance_within(Candidate(10, 0.95), 0.3) < 1.0


def test_speedups_never_fall_below_a_smaller_measured_candidate() -> None:
    for prediction in fitted(MEASURED).predict(GRID):
        for known, value in MEASURED.items():
            if is_within(known, prediction.candidate):
                assert prediction.speedup >= value.speedup - 1e-9
            if is_within(prediction.candidate, known):
                assert prediction.speedup <= value.speedup + 1e-9


@pytest.mark.parametrize(
    ("margin", "std", "chance"), [(0.0, 1.0, 0.5), (1.96, 1.0, 0.975), (-1.0, 0.0, 0.0)]
)
def test_normal_chances(margin: float, std: float, chance: float) -> None:
    assert normal_cdf(margin, std) == pytest.approx(chance, abs=1e-4)


def failed_study(candidate: Candidate, cause: str) -> StudyRecord:
    """Yield a study whose only trial failed."""
    trial = TrialRecord(
        number=0, candidate=candidate, state="failed", failure=Failure(cause=cause, message="")
    )
    return StudyRecord(
        name="demo",
        task="qnli",
        config={},
        config_hash="",
        data_fingerprint="",
        seed=0,
        budgets=(),
        trials=(trial,),
    )


@pytest.mark.parametrize(
    ("cause", "is_telling"),
    [
        ("sparsity_not_reached", True),
        ("nan", True),
        ("killed", False),
        ("disk_full", False),
        ("hopeless", False),
    ],
)
def test_mishaps_say_nothing_about_other_candidates(cause: str, is_telling: bool) -> None:
    candidate = Candidate(5, 0.9)

    study = failed_study(candidate, cause)

    assert telling_failures(study).keys() == ({candidate} if is_telling else set())


def test_pruning_that_ended_short_leaves_larger_candidates_half_a_chance() -> None:
    short, larger, other = Candidate(2, 0.85), Candidate(2, 0.9), Candidate(1, 0.95)
    asked = [larger, other]

    failed = telling_failures(failed_study(short, "sparsity_not_reached"))
    doubted = PerformanceModel.from_measured(MEASURED, failed, GRID)
    collapsed = fitted(MEASURED, (short,)).predict(asked)

    before, after = fitted(MEASURED).predict(asked), doubted.predict(asked)
    halved = replace(before[0], chance_trained=0.5 * before[0].chance_trained)
    assert after[0] == halved
    assert after[1] == before[1]
    assert collapsed[0].chance_trained == COLLAPSED * before[0].chance_trained
    assert collapsed[0].accuracy_loss > 0.0999 > after[0].accuracy_loss


def test_larger_candidates_than_a_stopped_one_lose_at_least_as_much_but_may_train() -> None:
    stopped = {Candidate(2, 0.9): 0.80}

    model = PerformanceModel.from_measured(MEASURED, {}, GRID, stopped=stopped)

    for candidate, prediction in zip(GRID, model.predict(GRID), strict=True):
        if candidate in MEASURED or not is_within(Candidate(2, 0.9), candidate):
            continue
        assert prediction.accuracy_loss >= 0.10 - 1e-9
        assert prediction.chance_trained > 0.5
        assert model.chance_within(candidate, 0.09) == 0.0
        assert model.chance_within(candidate, 0.40) > 0.4


def test_stopped_candidate_teaches_what_was_too_hopeful() -> None:
    stopped, beside = Candidate(10, 0.6), Candidate(5, 0.6)
    hopeful = fitted(MEASURED).predict([stopped, beside])

    far = PerformanceModel.from_measured(MEASURED, {}, GRID, stopped={stopped: 0.50})
    near = PerformanceModel.from_measured(MEASURED, {}, GRID, stopped={stopped: 0.89})

    after = [m.predict([beside])[0].accuracy_loss for m in (far, near)]
    assert hopeful[0].accuracy_loss < 0.40
    assert after[0] > hopeful[1].accuracy_loss + 0.002
    assert after[1] == pytest.approx(hopeful[1].accuracy_loss, abs=0.002)


@pytest.mark.parametrize("budget", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("is_noisy", [False, True], ids=["exact", "noisy"])
def test_picking_by_chance_and_speed_finds_the_optimum_in_a_third_of_the_grid(
    budget: float, is_noisy: bool
) -> None:
    evaluator = SyntheticEvaluator(is_noisy=is_noisy)
    table = {c: evaluator.evaluate(c, 0, lambda *_: None) for c in GRID}
    limit = table[BASELINE].accuracy - budget - 1e-9
    optimum = max((c for c in GRID if table[c].accuracy >= limit), key=lambda c: table[c].speedup)

    measured = {BASELINE: table[BASELINE]}
    while optimum not in measured:
        model = fitted(measured)
        best = max(m.speedup for m in measured.values() if m.accuracy >= limit)
        rest = [c for c in GRID if c not in measured]
        ratios = {p.candidate: p.speedup / best for p in model.predict(rest)}
        chosen = max(rest, key=lambda c: model.chance_within(c, budget) * math.log(ratios[c]))
        measured[chosen] = table[chosen]

    assert len(measured) <= len(GRID) // 3


def test_the_baselines_own_speedup_is_1_however_it_was_timed() -> None:
    base = measurement(0.9, 1.0)
    noisy = replace(base, throughput=replace(base.throughput, speedup_q1=0.8, speedup_q3=1.3))

    (baseline,) = fitted({**MEASURED, BASELINE: noisy}).predict([BASELINE])

    assert (baseline.speedup, baseline.log_speedup_std) == (1.0, 0.0)
