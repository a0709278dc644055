import pickle
import threading
import time
from collections.abc import Sequence

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from autoprumux.config import SearchConfig
from autoprumux.evaluators.synthetic import SyntheticTask
from autoprumux.records import Candidate
from autoprumux.search.acquisition import Proposal
from autoprumux.search.sampler import NoCandidateLeftError, Order, PerformanceModelSampler
from autoprumux.search.space import SearchSpace, suggest
from autoprumux.storage.trials import candidate_of

ORDERS: tuple[Order, ...] = ("performance_model", "random", "grid")
TASK = SyntheticTask()
SPACE = SearchSpace.from_config(SearchConfig(widths=(1, 2, 5), sparsities=(0.0, 0.6, 0.9)))


class RefusingClaims:
    """Another process has these candidates."""

    def __init__(self, taken: Sequence[Candidate]) -> None:
        self.taken = set(taken)

    def open(self, number: int) -> None: ...

    def taken_up(self, trial: FrozenTrial) -> Proposal | None: ...

    def take(self, number: int, proposal: Proposal) -> bool:
        return proposal.candidate not in self.taken


def make_study(sampler: PerformanceModelSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    candidate = SPACE.suggest(trial)
    return TASK.accuracy(candidate), TASK.speedup(candidate)


def candidates(study: optuna.Study) -> list[Candidate | None]:
    return [candidate_of(trial) for trial in study.trials]


@pytest.mark.parametrize("order", ORDERS)
def test_plain_sampler_tries_the_baseline_then_every_candidate_once_and_stops(
    order: Order,
) -> None:
    study = make_study(PerformanceModelSampler(SPACE, [0.02], order=order))

    study.optimize(objective, n_trials=100)

    assert study.trials[0].params == {"num_instances": 1, "sparsity": 0.0}
    assert len(study.trials) == len(SPACE.candidates)
    assert set(candidates(study)) == set(SPACE.candidates)


def test_grid_order_is_that_of_the_space() -> None:
    study = make_study(PerformanceModelSampler(SPACE, [0.02], order="grid"))

    study.optimize(objective, n_trials=5)

    assert candidates(study) == list(SPACE.candidates[:5])


def test_random_order_depends_on_the_seed() -> None:
    found = []
    for seed in (0, 0, 1):
        study = make_study(PerformanceModelSampler(SPACE, [0.02], order="random", seed=seed))
        study.optimize(objective, n_trials=9)
        found.append(candidates(study))

    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("order", ORDERS)
def test_new_sampler_goes_on_as_the_old_one_would(order: Order) -> None:
    undisturbed = make_study(PerformanceModelSampler(SPACE, [0.02], order=order))
    undisturbed.optimize(objective, n_trials=6)
    study = make_study(PerformanceModelSampler(SPACE, [0.02], order=order))

    for _ in range(6):
        study.sampler = PerformanceModelSampler(SPACE, [0.02], order=order)
        study.optimize(objective, n_trials=1)

    assert candidates(study) == candidates(undisturbed)


def test_exhausted_plain_sampler_starts_over_with_the_first_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = make_study(PerformanceModelSampler(SPACE, [0.02]))
    study.optimize(objective, n_trials=len(SPACE.candidates))

    again = SPACE.suggest(study.ask())

    assert again == Candidate(1, 0.0)
    assert "Every candidate has had its trial" in caplog.text


def test_running_and_failed_trials_are_not_proposed_again() -> None:
    study = make_study(PerformanceModelSampler(SPACE, [0.02]))
    study.optimize(objective, n_trials=1)

    running = SPACE.suggest(study.ask())
    failed_trial = study.ask()
    failed = SPACE.suggest(failed_trial)
    study.tell(failed_trial, state=optuna.trial.TrialState.FAIL)
    study.optimize(objective, n_trials=len(SPACE.candidates))

    assert candidates(study).count(running) == 1
    assert candidates(study).count(failed) == 1
    assert set(candidates(study)) == set(SPACE.candidates)


def test_lost_claim_goes_to_the_next_best() -> None:
    free = make_study(PerformanceModelSampler(SPACE, [0.02]))
    free.optimize(objective, n_trials=1)
    best = SPACE.suggest(free.ask())
    beside = make_study(PerformanceModelSampler(SPACE, [0.02], claims=RefusingClaims([best])))
    beside.optimize(objective, n_trials=1)

    chosen = SPACE.suggest(beside.ask())

    assert chosen not in (best, Candidate(1, 0.0))


def test_sampler_with_claims_says_when_others_took_the_last_candidates() -> None:
    claims = RefusingClaims(SPACE.candidates)
    study = make_study(PerformanceModelSampler(SPACE, [0.02], claims=claims))
    trial = study.ask()

    with pytest.raises(NoCandidateLeftError):
        SPACE.suggest(trial)


def slow_objective(trial: optuna.Trial) -> tuple[float, float]:
    """Store the parameters one by one, so that other threads look in between."""
    distributions = SPACE.distributions()
    values = {}
    for name in sorted(distributions):
        values[name] = suggest(trial, name, distributions[name])
        time.sleep(0.02)
    return TASK.accuracy(SPACE.candidate(values)), TASK.speedup(SPACE.candidate(values))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_jobs", [2, 4])
def test_threads_try_every_candidate_once(order: Order, num_jobs: int) -> None:
    study = make_study(PerformanceModelSampler(SPACE, [0.02], order=order))

    study.optimize(slow_objective, n_trials=100, n_jobs=num_jobs)

    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert sorted(filter(None, map(candidate_of, complete))) == list(SPACE.candidates)
    assert len(complete) == len(SPACE.candidates)
    assert len(study.trials) < len(SPACE.candidates) + num_jobs  # those too many are pruned


def test_thread_without_a_candidate_left_is_pruned_and_trains_nothing() -> None:
    space = SearchSpace.from_config(SearchConfig(widths=(1, 2), sparsities=(0.0,)))
    study = make_study(PerformanceModelSampler(space, [0.02]))
    barrier, tried = threading.Barrier(4), []

    def together(trial: optuna.Trial) -> tuple[float, float]:
        barrier.wait(timeout=60)
        tried.append(space.suggest(trial))
        return TASK.accuracy(tried[-1]), TASK.speedup(tried[-1])

    study.optimize(together, n_trials=4, n_jobs=4)

    assert sorted(tried) == list(space.candidates)
    states = sorted(trial.state.name for trial in study.trials)
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]


def test_candidate_of_a_trial_that_stored_half_of_it_is_given_to_another() -> None:
    study = make_study(PerformanceModelSampler(SPACE, [0.02], order="grid"))
    study.optimize(objective, n_trials=1)

    def failing(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_int("num_instances", 1, 5)
        raise ValueError

    study.optimize(failing, n_trials=1, catch=(ValueError,))
    study.optimize(objective, n_trials=100)

    assert set(candidates(study)) == {None, *SPACE.candidates}
    assert len(study.trials) == 1 + len(SPACE.candidates)


def test_one_sampler_serves_two_studies() -> None:
    sampler = PerformanceModelSampler(SPACE, [0.02], order="grid")
    first, second = make_study(sampler), make_study(sampler)

    asked = [SPACE.suggest(study.ask()) for study in (first, second, first)]

    assert asked == [SPACE.candidates[0], SPACE.candidates[0], SPACE.candidates[1]]


def test_pickled_sampler_goes_on() -> None:
    study = make_study(PerformanceModelSampler(SPACE, [0.02], order="random", seed=3))
    study.optimize(objective, n_trials=3)
    study.ask()

    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    study.optimize(objective, n_trials=100)

    assert set(candidates(study)) == {None, *SPACE.candidates}


def test_model_finds_the_optimum_in_fewer_trials_than_random_on_average() -> None:
    space = SearchSpace.from_config(SearchConfig())
    optimum = TASK.optimum(0.02, space.candidates)

    def trials_to_optimum(order: Order, seed: int) -> int:
        sampler = PerformanceModelSampler(space, [0.02], order=order, seed=seed)
        study = make_study(sampler)
        for number in range(len(space.candidates)):
            trial = study.ask()
            candidate = space.suggest(trial)
            study.tell(trial, [TASK.accuracy(candidate), TASK.speedup(candidate)])
            if candidate == optimum:
                return number + 1
        raise AssertionError("the optimum is a candidate")

    ours = trials_to_optimum("performance_model", 0)
    random = [trials_to_optimum("random", seed) for seed in range(10)]

    assert ours <= 8
    assert ours < sum(random) / len(random)
