from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprumux.errors import TrialError
from autoprumux.evaluators.base import Evaluator
from autoprumux.evaluators.synthetic import DEFAULT_GRID, SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Measurement

BASELINE = Candidate(1, 0.0)
MUXED = Candidate(5, 0.8)


def ignore(name: str, value: float, step: int) -> None:
    """A report that nobody reads."""


def measure(evaluator: SyntheticEvaluator, candidate: Candidate, seed: int = 0) -> Measurement:
    return evaluator.evaluate(candidate, seed, ignore)


def test_it_is_an_evaluator() -> None:
    evaluator: Evaluator = SyntheticEvaluator()

    evaluator.check()

    assert evaluator.data_fingerprint.startswith("synthetic:plain:")


def test_other_tasks_have_other_fingerprints() -> None:
    other = SyntheticEvaluator(task=SyntheticTask(width_loss=0.09))

    assert other.data_fingerprint != SyntheticEvaluator().data_fingerprint


def test_the_baseline_has_its_accuracy_and_speedup_one() -> None:
    baseline = measure(SyntheticEvaluator(), BASELINE)

    assert baseline.accuracy == pytest.approx(0.90, abs=1e-12)
    assert baseline.speedup == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("candidate", DEFAULT_GRID, ids=str)
def test_without_noise_the_closed_form_is_measured(candidate: Candidate) -> None:
    evaluator = SyntheticEvaluator()

    measurement = measure(evaluator, candidate)

    assert measurement.accuracy == pytest.approx(evaluator.task.accuracy(candidate), abs=1e-12)
    assert measurement.speedup == pytest.approx(evaluator.task.speedup(candidate), abs=1e-12)


@pytest.mark.parametrize("is_noisy", [False, True])
def test_a_candidate_and_a_seed_give_the_same_measurement(is_noisy: bool) -> None:
    first = measure(SyntheticEvaluator(is_noisy=is_noisy), MUXED, seed=3)
    second = measure(SyntheticEvaluator(is_noisy=is_noisy), MUXED, seed=3)

    assert first == second


def test_noise_spreads_accuracy_by_the_size_of_the_validation_set() -> None:
    evaluator = SyntheticEvaluator(is_noisy=True)
    accuracies = [measure(evaluator, MUXED, seed).accuracy for seed in range(100)]
    true = evaluator.task.accuracy(MUXED)
    binomial = np.sqrt(true * (1.0 - true) / evaluator.task.num_examples)

    assert np.mean(accuracies) == pytest.approx(true, abs=4.0 * binomial / 10.0)
    assert 0.7 * binomial < np.std(accuracies) < 1.4 * binomial


@pytest.mark.parametrize("candidate", [BASELINE, MUXED], ids=str)
def test_the_correctness_bits_give_the_accuracy(candidate: Candidate) -> None:
    measurement = measure(SyntheticEvaluator(is_noisy=True), candidate)
    num = measurement.num_compositions * measurement.num_examples

    bits = np.unpackbits(np.frombuffer(measurement.correctness, dtype=np.uint8), count=num)

    assert bits.mean() == pytest.approx(measurement.accuracy, abs=1e-12)


def test_models_are_right_on_much_the_same_examples() -> None:
    evaluator = SyntheticEvaluator()
    num = evaluator.task.num_examples
    dense, pruned = (
        np.unpackbits(np.frombuffer(measure(evaluator, c).correctness, np.uint8), count=num)
        for c in (BASELINE, Candidate(1, 0.9))
    )

    assert np.corrcoef(dense, pruned)[0, 1] > 0.5


@settings(deadline=None)
@given(budget=st.floats(0.0, 0.5))
def test_the_optimum_is_the_fastest_within_the_budget(budget: float) -> None:
    evaluator = SyntheticEvaluator()
    task, best = evaluator.task, evaluator.optimum(budget)
    limit = task.accuracy(BASELINE) - budget

    assert task.accuracy(best) >= limit - 1e-9
    for candidate in DEFAULT_GRID:
        assert task.accuracy(candidate) < limit or task.speedup(candidate) <= task.speedup(best)


def test_small_medium_and_large_budgets_have_different_optima() -> None:
    assert len({SyntheticEvaluator().optimum(budget) for budget in (0.01, 0.03, 0.10)}) == 3


def test_beyond_the_threshold_training_collapses_to_chance() -> None:
    evaluator = SyntheticEvaluator(task=SyntheticTask(collapse=1.6))

    assert measure(evaluator, Candidate(10, 0.95)).accuracy == 0.5
    assert measure(evaluator, Candidate(10, 0.0)).accuracy > 0.8


def test_failing_candidates_raise_their_cause() -> None:
    evaluator = SyntheticEvaluator(failing=frozenset({MUXED}), failure_cause="nan")

    with pytest.raises(TrialError, match=r"N=5 s=0\.80 was set to fail") as caught:
        measure(evaluator, MUXED)

    assert caught.value.cause == "nan"
    assert measure(evaluator, BASELINE).accuracy == 0.9


def test_phases_follow_from_width_and_sparsity() -> None:
    evaluator = SyntheticEvaluator()

    names = [phase.name for phase in measure(evaluator, MUXED).phases]
    dense = [phase.name for phase in measure(evaluator, BASELINE).phases]

    assert names == ["prime", "pretrain", "finetune", "prune", "finetune_pruned"]
    assert dense == ["finetune"]


def test_a_width_is_trained_once_and_cached_from_then_on() -> None:
    evaluator = SyntheticEvaluator()
    before = evaluator.cached_widths()

    first = measure(evaluator, Candidate(5, 0.6))
    second = measure(evaluator, MUXED)

    assert before == frozenset()
    assert evaluator.cached_widths() == {5}
    assert not any(phase.is_cached for phase in first.phases)
    assert [p.name for p in second.phases if p.is_cached] == ["prime", "pretrain", "finetune"]
    assert second.duration_s < first.duration_s


def test_every_phase_announces_its_total_and_ends_at_it() -> None:
    totals: dict[str, float] = {}
    last: Counter[str] = Counter()

    def collect(name: str, value: float, step: int) -> None:
        phase, key = name.split("/")
        if key == "total":
            totals[phase] = value
        last[phase] = max(last[phase], step)

    SyntheticEvaluator().evaluate(MUXED, 0, collect)

    assert set(totals) == {"prime", "pretrain", "finetune", "prune", "finetune_pruned"}
    assert dict(last) == totals
