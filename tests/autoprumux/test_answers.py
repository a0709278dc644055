import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.answers import (
    MeasuredModel,
    answer_budgets,
    candidate_grid,
    measured_models,
    pareto_front,
)
from autoprumux.errors import NoBaselineError, StorageError, TrialError, UsageError
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.ranking import rank_predicted
from autoprumux.records import Candidate, Failure, Measurement, StudyRecord, TrialRecord
from autoprumux.surrogates.performance import PerformanceModel

WIDTHS = (1, 2, 5, 10)
SPARSITIES = (0.0, 0.6, 0.7, 0.8, 0.9)
GRID = [Candidate(n, s) for n in WIDTHS for s in SPARSITIES]
BASELINE = Candidate(1, 0.0)
# At (1, 0) 90.0 %; (2, 0) loses 1.9 points, (1, 0.9) 2.6, (2, 0.8) 3.5, (5, 0.8) 7.4.
SOME = [BASELINE, Candidate(2, 0.0), Candidate(1, 0.9), Candidate(2, 0.8), Candidate(5, 0.8)]


quick = settings(deadline=None, max_examples=40)
"""Every example fits surrogates; a busy machine may take long over one."""


def ignore(name: str, value: float, step: int) -> None:
    """A report that nobody reads."""


def make_study(
    candidates: list[Candidate],
    evaluator: SyntheticEvaluator | None = None,
    replaced: dict[Candidate, Measurement] | None = None,
) -> StudyRecord:
    evaluator, trials = evaluator or SyntheticEvaluator(), []
    for number, candidate in enumerate(candidates):
        trial = TrialRecord(number=number, candidate=candidate, state="running")
        try:
            found = (replaced or {}).get(candidate) or evaluator.evaluate(candidate, 0, ignore)
            trials.append(replace(trial, state="complete", measurement=found))
        except TrialError as error:
            failure = Failure(cause=error.cause, message=str(error))
            trials.append(replace(trial, state="failed", failure=failure))
    return StudyRecord(
        name="demo",
        task="qnli",
        config={"search": {"widths": list(WIDTHS), "sparsities": list(SPARSITIES)}},
        config_hash="0",
        data_fingerprint=evaluator.data_fingerprint,
        seed=0,
        budgets=(0.02,),
        trials=tuple(trials),
    )


def altered(measurement: Measurement, *, accuracy: float, speedup: float) -> Measurement:
    throughput = replace(measurement.throughput, speedup=speedup)
    return replace(measurement, accuracy=accuracy, throughput=throughput, correctness=b"")


measured_tables = st.dictionaries(
    st.sampled_from(GRID[1:]), st.tuples(st.floats(0.5, 1.0), st.floats(0.5, 40.0)), max_size=8
)


def table_of(points: dict[Candidate, tuple[float, float]]) -> dict[Candidate, Measurement]:
    template = SyntheticEvaluator().evaluate(BASELINE, 0, ignore)
    table = {c: altered(template, accuracy=a, speedup=v) for c, (a, v) in points.items()}
    return {BASELINE: template, **table}


def test_the_best_is_the_fastest_measured_model_within_the_budget() -> None:
    (answer,) = answer_budgets(make_study(SOME), [0.04])

    assert answer.best is not None
    assert answer.best.candidate == Candidate(2, 0.8)
    assert answer.best.accuracy_loss <= 0.04
    assert answer.is_met
    assert answer.closest is None


@quick
@given(
    points=measured_tables,
    budgets=st.lists(st.floats(-0.1, 0.5), min_size=2, max_size=2).map(sorted),
)
def test_bigger_budget_never_yields_a_slower_model(
    points: dict[Candidate, tuple[float, float]], budgets: list[float]
) -> None:
    table = table_of(points)
    study = make_study(list(table), replaced=table)

    small, large = answer_budgets(study, budgets)

    small_speed, large_speed = (a.best.speedup if a.best else 0.0 for a in (small, large))
    assert small_speed <= large_speed


@quick
@given(points=measured_tables, budget=st.floats(0.0, 0.5))
def test_no_measured_model_within_the_budget_is_faster_than_the_answer(
    points: dict[Candidate, tuple[float, float]], budget: float
) -> None:
    table = table_of(points)

    (answer,) = answer_budgets(make_study(list(table), replaced=table), [budget])

    assert answer.best is not None
    assert answer.best.accuracy_loss <= budget + 1e-9
    limit = table[BASELINE].accuracy - budget
    faster = [m for m in table.values() if m.accuracy >= limit and m.speedup > answer.best.speedup]
    assert faster == []


def likely_by_hand(
    model: PerformanceModel, cells: list[Candidate], budget: float
) -> list[tuple[Candidate, float]]:
    """Yield the three most likely to be the fastest within the budget, then the paper's.

    The fastest that is sure to be within is one of them, unless faster ones nearly are.
    """
    found, left, sure = {}, 1.0, None
    ordered = sorted(model.predict(cells), key=lambda p: (-p.speedup, -p.accuracy, p.candidate))
    for p in ordered:
        is_within = p.accuracy_loss <= budget + 1e-9
        chance = is_within if p.is_measured else model.chance_within(p.candidate, budget)
        found[p.candidate] = left * chance
        if sure is None and chance == 1.0 and left >= 1e-4:
            sure = p.candidate
        left *= 1.0 - chance
    likely = sorted((c for c in found if found[c] >= 0.01), key=lambda c: -found[c])
    if sure and sure not in likely[:3]:
        likely = [*likely[:2], sure]
    paper = [p.candidate for p in rank_predicted(ordered, budget) if p.candidate not in likely]
    return [(c, pytest.approx(found[c], abs=1e-4)) for c in [*likely, *paper][:3]]


@quick
@given(points=measured_tables, budget=st.floats(-0.05, 0.5))
def test_the_answers_are_those_of_comparing_and_ranking_everything(
    points: dict[Candidate, tuple[float, float]], budget: float
) -> None:
    table = table_of(points)
    study = make_study(list(table), replaced=table)
    baseline = table[BASELINE]
    models = measured_models(study, baseline)
    predictor = PerformanceModel.from_measured(table, [], candidate_grid(study))
    cells = sorted({*candidate_grid(study), *table})

    (answer,) = answer_budgets(study, [budget])

    def order(model: MeasuredModel) -> tuple[float, float, Candidate]:
        return (-model.speedup, -model.measurement.accuracy, model.candidate)

    within = [m for m in models if m.accuracy_loss <= budget + 1e-9]
    assert answer.best == min(within, key=order, default=None)
    if answer.closest is not None:
        faster = [m for m in models if m.speedup > baseline.speedup]
        assert answer.closest == min(faster, key=lambda m: (m.accuracy_loss, order(m)))
    assert [(m.candidate, m.chance_best) for m in answer.predicted] == likely_by_hand(
        predictor, cells, budget
    )
    intervals = {m.candidate: m.interval for m in models}
    for model in answer.predicted:
        if model.is_verified:
            assert model.interval == intervals[model.candidate]


def test_a_loss_on_the_border_of_the_budget_is_within_it() -> None:
    table = table_of({Candidate(2, 0.0): (0.88, 2.0)})  # 0.90 - 0.88 is above 0.02 in binary

    (answer,) = answer_budgets(make_study(list(table), replaced=table), [0.02])

    assert answer.best is not None
    assert answer.best.candidate == Candidate(2, 0.0)


def test_ties_go_to_the_higher_accuracy_then_to_the_smaller_width() -> None:
    table = table_of(
        {
            Candidate(2, 0.0): (0.88, 3.0),
            Candidate(5, 0.0): (0.89, 3.0),
            Candidate(10, 0.0): (0.89, 3.0),
        }
    )

    (answer,) = answer_budgets(make_study(list(table), replaced=table), [0.05])

    assert answer.best is not None
    assert answer.best.candidate == Candidate(5, 0.0)


def test_if_no_faster_model_meets_it_the_baseline_answers_and_the_closest_is_named() -> None:
    (answer,) = answer_budgets(make_study(SOME), [0.001])

    assert answer.best is not None
    assert answer.best.candidate == BASELINE
    assert not answer.is_met
    assert answer.closest is not None
    assert answer.closest.candidate == Candidate(2, 0.0)


def test_a_negative_budget_is_met_only_by_a_gain() -> None:
    (answer,) = answer_budgets(make_study(SOME), [-0.01])

    assert answer.best is None
    assert answer.closest is not None


def test_a_lone_baseline_has_nothing_closest() -> None:
    (answer,) = answer_budgets(make_study([BASELINE]), [0.0])

    assert answer.closest is None
    assert answer.best is not None


def test_no_budgets_are_no_answers() -> None:
    study = make_study([Candidate(1, 0.0), Candidate(2, 0.0)])

    assert answer_budgets(study, []) == ()


def test_without_a_baseline_the_remedy_is_named() -> None:
    study = make_study([Candidate(2, 0.0)])

    with pytest.raises(NoBaselineError, match=r"Run `autoprumux search --task qnli`"):
        answer_budgets(study, [0.02])


def test_a_configuration_without_a_grid_is_refused() -> None:
    study = replace(make_study(SOME), config={"search": {"widths": [1]}})

    with pytest.raises(StorageError, match=r"study `demo` lacks `search\.widths` or"):
        answer_budgets(study, [0.02])


def test_the_grid_comes_from_the_stored_configuration() -> None:
    assert candidate_grid(make_study(SOME)) == GRID


def test_the_baseline_loses_nothing_beyond_doubt() -> None:
    (answer,) = answer_budgets(make_study([BASELINE]), [0.0])

    assert answer.best is not None
    assert (answer.best.interval.low, answer.best.interval.high) == (0.0, 0.0)


def test_intervals_surround_the_measured_loss_symmetrically() -> None:
    for answer in answer_budgets(make_study(SOME), [0.02, 0.03, 0.04, 0.1]):
        best = answer.best
        assert best is not None
        assert best.interval.low < best.accuracy_loss < best.interval.high
        centre = (best.interval.low + best.interval.high) / 2.0
        assert centre == pytest.approx(best.accuracy_loss, abs=1e-12)


def test_pairing_the_examples_narrows_the_interval() -> None:
    (paired,) = answer_budgets(make_study(SOME), [0.04])
    stripped = {
        t.candidate: replace(t.measurement, correctness=b"")
        for t in make_study(SOME).trials
        if t.measurement is not None
    }
    (unpaired,) = answer_budgets(make_study(SOME, replaced=stripped), [0.04])

    assert paired.best is not None
    assert unpaired.best is not None
    assert paired.best.is_paired
    assert not unpaired.best.is_paired
    width = paired.best.interval.high - paired.best.interval.low
    assert width < 0.8 * (unpaired.best.interval.high - unpaired.best.interval.low)


def test_other_validation_examples_are_not_paired() -> None:
    other = SyntheticEvaluator(task=SyntheticTask(num_examples=500))
    model = other.evaluate(Candidate(2, 0.8), 0, ignore)

    (answer,) = answer_budgets(make_study(SOME, replaced={Candidate(2, 0.8): model}), [0.04])

    assert answer.best is not None
    assert not answer.best.is_paired


def test_the_paired_interval_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((1, 4000)) < 0.9
    muxed = (rng.random((3, 4000)) < 0.95) & dense  # never right where the baseline is wrong
    template = SyntheticEvaluator(task=SyntheticTask(num_examples=4000))
    table = {
        candidate: replace(
            template.evaluate(candidate, 0, ignore),
            accuracy=float(bits.mean()),
            num_compositions=len(bits),
            correctness=np.packbits(bits).tobytes(),
        )
        for candidate, bits in ((BASELINE, dense), (Candidate(2, 0.0), muxed))
    }
    difference = dense.mean(axis=0) - muxed.mean(axis=0)
    expected = 1.96 * difference.std() / np.sqrt(4000)

    (answer,) = answer_budgets(make_study(list(table), replaced=table), [0.1])

    assert answer.best is not None
    assert answer.best.candidate == Candidate(2, 0.0)
    half = (answer.best.interval.high - answer.best.interval.low) / 2.0
    assert half == pytest.approx(expected, rel=0.05)


def test_predictions_are_those_most_likely_to_be_the_best() -> None:
    for answer in answer_budgets(make_study(SOME), [0.0, 0.02, 0.05, 0.1]):
        chances = [p.chance_best for p in answer.predicted]
        assert 1 <= len(answer.predicted) <= 3
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1.0 + 1e-9
        for model in answer.predicted:
            is_within = model.accuracy_loss <= answer.budget + 1e-9
            assert model.chance_best >= 0.01 or is_within
            assert is_within or not model.is_verified


def test_nothing_is_likelier_the_best_than_within_the_budget() -> None:
    for answer in answer_budgets(make_study(SOME), [0.02, 0.05, 0.1]):
        assert answer.best is not None
        for model in answer.predicted:
            if not model.is_verified:
                assert 0.0 <= model.chance_best <= model.chance
            elif model.candidate != answer.best.candidate:
                assert model.chance_best == 0.0


def test_measured_candidates_are_marked_verified_and_others_predicted() -> None:
    for answer in answer_budgets(make_study(SOME), [0.02, 0.04, 0.1]):
        for model in answer.predicted:
            assert model.mark == ("verified" if model.candidate in SOME else "predicted")
            assert model.interval.low <= model.accuracy_loss <= model.interval.high
            assert model.speedup_interval.low <= model.speedup <= model.speedup_interval.high
            assert 0.0 <= model.chance <= 1.0


def test_on_a_fully_measured_grid_the_best_leads_the_ranking() -> None:
    study, task = make_study(GRID), SyntheticTask()

    for answer in answer_budgets(study, [0.0, 0.01, 0.02, 0.05, 0.1, 0.2]):
        assert answer.best is not None
        assert answer.predicted[0].candidate == answer.best.candidate
        assert answer.best.candidate == task.optimum(answer.budget, GRID)


def test_the_training_grid_predicts_the_best_of_the_test_grid_for_most_budgets() -> None:
    # The paper's Table 3: the actual best is among the top 3 for 17 to 21 of 21 budgets.
    fine = [Candidate(n, s / 100) for n in WIDTHS for s in (0, *range(60, 100, 5))]
    coarse = [c for c in fine if c.sparsity not in (0.65, 0.75, 0.85)]
    sparsities = sorted({c.sparsity for c in fine})
    study = replace(
        make_study(coarse), config={"search": {"widths": WIDTHS, "sparsities": sparsities}}
    )
    budgets = [points / 200 for points in range(21)]

    hits = [
        SyntheticTask().optimum(answer.budget, fine) in [p.candidate for p in answer.predicted]
        for answer in answer_budgets(study, budgets)
    ]

    assert sum(hits) >= 17


def test_with_a_confidence_only_models_that_are_likely_within_count() -> None:
    study = make_study(SOME)
    budget = 0.036  # (2, 0.8) loses 3.5 points, give or take a point

    (plain,) = answer_budgets(study, [budget])
    (sure,) = answer_budgets(study, [budget], confidence=0.9)

    assert plain.best is not None
    assert sure.best is not None
    assert plain.best.candidate == Candidate(2, 0.8)
    assert plain.best.chance_within(budget) < 0.9
    assert sure.best.candidate != Candidate(2, 0.8)
    assert sure.best.chance_within(budget) >= 0.9
    assert sure.confidence == 0.9
    assert all(p.chance >= 0.9 for p in sure.predicted)


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.99])
def test_the_needed_budget_of_the_closest_is_the_smallest_that_it_meets(
    confidence: float,
) -> None:
    study = make_study(SOME)
    (answer,) = answer_budgets(study, [0.001], confidence=confidence)
    assert answer.closest is not None
    assert not answer.is_met

    needed = answer.closest.needed_budget(confidence)

    below, above = answer_budgets(study, [needed - 1e-4, needed + 1e-4], confidence=confidence)
    assert not below.is_met
    assert above.best is not None
    assert above.best.candidate == answer.closest.candidate
    assert answer.closest.chance_within(needed) == pytest.approx(confidence, abs=1e-6)


@quick
@given(points=measured_tables, budget=st.floats(0.0, 0.3))
def test_more_confidence_never_yields_a_faster_model(
    points: dict[Candidate, tuple[float, float]], budget: float
) -> None:
    table = table_of(points)
    study = make_study(list(table), replaced=table)

    speeds = [
        answer.best.speedup
        for confidence in (None, 0.6, 0.9, 0.99)
        for answer in answer_budgets(study, [budget], confidence=confidence)
        if answer.best is not None
    ]

    assert speeds == sorted(speeds, reverse=True)
    assert len(speeds) == 4  # the baseline is within every budget


@pytest.mark.parametrize("confidence", [0.5, 1.0, 0.3, 90.0, float("nan")])
def test_a_confidence_that_says_nothing_is_refused(confidence: float) -> None:
    with pytest.raises(UsageError, match=r"`--confidence` must be above 0\.5 and below 1, got "):
        answer_budgets(make_study(SOME), [0.02], confidence=confidence)


def test_failed_candidates_are_not_recommended() -> None:
    failed = Candidate(5, 0.9)
    evaluator = SyntheticEvaluator(failing=frozenset({failed}), failure_cause="out_of_memory")
    study = make_study([c for c in GRID if c != Candidate(10, 0.9)], evaluator)

    (answer,) = answer_budgets(study, [0.5])

    assert failed not in [p.candidate for p in answer.predicted]
    assert Candidate(10, 0.9) in [p.candidate for p in answer.predicted]


@quick
@given(points=measured_tables)
def test_the_front_holds_exactly_what_nothing_beats(
    points: dict[Candidate, tuple[float, float]],
) -> None:
    table = table_of(points)

    front = dict(pareto_front(table))

    for candidate, own in table.items():
        beaten = any(
            m.accuracy >= own.accuracy
            and m.speedup >= own.speedup
            and (m.accuracy, m.speedup) != (own.accuracy, own.speedup)
            for m in table.values()
        )
        twin_on_front = any(
            (m.accuracy, m.speedup) == (own.accuracy, own.speedup) for m in front.values()
        )
        assert twin_on_front != beaten
        assert candidate not in front or not beaten


@quick
@given(points=measured_tables)
def test_the_front_runs_from_slow_to_fast_and_from_accurate_to_lossy(
    points: dict[Candidate, tuple[float, float]],
) -> None:
    front = [m for _, m in pareto_front(table_of(points))]

    assert [m.speedup for m in front] == sorted({m.speedup for m in front})
    assert [m.accuracy for m in front] == sorted({m.accuracy for m in front}, reverse=True)


def test_of_equal_models_the_narrower_one_is_on_the_front() -> None:
    table = table_of({Candidate(5, 0.0): (0.85, 4.0), Candidate(2, 0.8): (0.85, 4.0)})

    assert [c for c, _ in pareto_front(table)] == [BASELINE, Candidate(2, 0.8)]


def test_importing_the_query_is_quick_and_loads_no_heavy_library() -> None:
    script = (
        "import sys, time\n"
        "times = [time.process_time()]\n"
        "import numpy\n"
        "times.append(time.process_time())\n"
        "import autoprumux.answers\n"
        "times.append(time.process_time())\n"
        "ratio = (times[2] - times[1]) / (times[1] - times[0])\n"
        "heavy = {'torch', 'optuna', 'scipy', 'pandas', 'sklearn', 'transformers', 'sqlalchemy'}\n"
        "print(sorted(heavy & sys.modules.keys()), ratio < 4, ratio)\n"
    )

    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert output.startswith("[] True"), output
