import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from autoprumux.config import StudyConfig
from autoprumux.errors import InputError, NoBaselineError, StorageError, StudyMismatchError
from autoprumux.records import Candidate, Measurement
from autoprumux.search.endings import MIN_TRIALS
from autoprumux.search.runner import SearchOutcome, run_study
from autoprumux.search.told import trial_seed
from autoprumux.storage.database import Database
from autoprumux.storage.repository import Repository

BASELINE = Candidate(1, 0.0)

Config = Callable[..., StudyConfig]


@pytest.fixture
def search(database: Database, listener: Any) -> Callable[..., SearchOutcome]:
    """Factory: `search(config, evaluator)`."""
    return lambda config, evaluator: run_study(config, database, evaluator, listener)


Search = Callable[..., SearchOutcome]


def optuna_study(database: Database, name: str = "qnli-small") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=database.optuna_storage())


def test_search_tries_the_baseline_first_and_answers(
    search: Search, config: Config, evaluator: Any
) -> None:
    outcome = search(config(), evaluator)

    assert evaluator.evaluated[0] == BASELINE
    assert outcome.num_trained == 4
    assert outcome.num_candidates == 9
    assert outcome.answers[0].best is not None
    assert outcome.answers[0].best.accuracy_loss <= 0.02 + 1e-9
    assert outcome.study.measured.keys() == set(evaluator.evaluated) - evaluator.failing


def test_no_candidate_is_tried_twice_however_often_the_search_is_run(
    search: Search, config: Config, evaluator: Any
) -> None:
    for cap in (2, 2, 5, 9, 9):
        search(config(max_trials=cap, stop_chance=0.0), evaluator)

    assert len(evaluator.evaluated) == len(set(evaluator.evaluated)) == 9


def test_resumed_search_ends_like_an_undisturbed_one(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    whole, parts = make_evaluator(), make_evaluator()
    search(config(name="whole", max_trials=7), whole)

    for cap in range(1, 8):
        search(config(name="parts", max_trials=cap), parts)

    assert parts.evaluated == whole.evaluated


def test_search_stops_when_the_answer_is_settled_and_says_so(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    outcome = search(config(max_trials=9, budgets=(0.5,)), make_evaluator())

    assert outcome.stop_reason == (
        "settled: no untried candidate has more than a 5 % chance "
        "of beating the verified best by more than 5 %"
    )
    assert MIN_TRIALS <= outcome.num_trained < 9
    best = outcome.answers[0].best
    assert best is not None
    assert best.candidate == Candidate(5, 0.9)


def test_search_stops_at_the_cap(search: Search, config: Config, evaluator: Any) -> None:
    outcome = search(config(max_trials=3), evaluator)

    assert outcome.stop_reason == "the cap of 3 trained trials is reached"
    assert len(evaluator.evaluated) == 3


def test_search_stops_when_no_candidate_is_left(
    search: Search, config: Config, evaluator: Any
) -> None:
    outcome = search(config(max_trials=50, stop_chance=0.0), evaluator)

    assert outcome.stop_reason == "all 9 candidates are tried"
    assert outcome.minutes_full_grid == pytest.approx(outcome.minutes_spent)


def test_no_trial_starts_after_the_time_limit(
    search: Search, config: Config, evaluator: Any
) -> None:
    search(config(max_trials=1), evaluator)

    outcome = search(config(max_trials=9, timeout_s=1e-9), evaluator)

    assert outcome.stop_reason.startswith("the time limit of ")
    assert len(evaluator.evaluated) == 1


def test_space_of_the_baseline_alone_is_searched(
    search: Search, config: Config, evaluator: Any
) -> None:
    outcome = search(config(widths=(1,), sparsities=(0.0,)), evaluator)

    assert outcome.stop_reason == "all 1 candidates are tried"
    assert evaluator.evaluated == [BASELINE]


def test_space_of_one_width_is_searched(search: Search, config: Config, evaluator: Any) -> None:
    search(config(widths=(1,), max_trials=9), evaluator)

    assert sorted(evaluator.evaluated) == [BASELINE, Candidate(1, 0.6), Candidate(1, 0.9)]


def test_full_grid_takes_longer_than_what_was_spent(
    search: Search, config: Config, evaluator: Any
) -> None:
    outcome = search(config(max_trials=3), evaluator)

    assert 0 < outcome.minutes_spent < outcome.minutes_full_grid


OTHER_SAMPLERS = ["random", "grid", "tpe", "gp", "nsga2", "brute_force"]


@pytest.mark.parametrize("budgets", [(0.02,), (0.01, 0.05)], ids=["one budget", "two"])
@pytest.mark.parametrize("sampler", OTHER_SAMPLERS)
def test_other_samplers_search_the_same_space_without_repeating_themselves(
    search: Search, config: Config, evaluator: Any, sampler: str, budgets: tuple[float, ...]
) -> None:
    settings = {"sampler": sampler, "budgets": budgets, "stop_chance": 0.0}

    outcome = search(config(max_trials=50, **settings), evaluator)

    assert evaluator.evaluated[0] == BASELINE
    assert len(set(evaluator.evaluated)) == len(evaluator.evaluated) == 9
    assert outcome.stop_reason == "all 9 candidates are tried"


@pytest.mark.parametrize("sampler", OTHER_SAMPLERS)
def test_resumed_search_of_another_sampler_ends_like_an_undisturbed_one(
    search: Search, config: Config, make_evaluator: Any, sampler: str
) -> None:
    settings = {"sampler": sampler, "stop_chance": 0.0, "sparsities": (0.0, 0.6, 0.7, 0.8, 0.9)}
    whole, parts = make_evaluator(), make_evaluator()
    search(config(name="whole", max_trials=12, **settings), whole)

    for cap in (1, 5, 12):
        search(config(name="parts", max_trials=cap, **settings), parts)

    assert parts.evaluated == whole.evaluated
    assert len(whole.evaluated) == 12


def test_samplers_of_optuna_stop_at_the_cap_and_differ(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    orders = []
    for sampler in OTHER_SAMPLERS:
        evaluator = make_evaluator()
        settings = {"sampler": sampler, "max_trials": 7, "stop_chance": 0.0}
        outcome = search(config(name=sampler, **settings), evaluator)
        assert outcome.stop_reason == "the cap of 7 trained trials is reached"
        orders.append(tuple(evaluator.evaluated))

    assert len(set(orders)) >= 4


def test_failed_trial_is_stored_with_its_cause_and_the_search_goes_on(
    search: Search, config: Config, evaluator: Any, database: Database
) -> None:
    failing = next(iter(evaluator.failing))

    outcome = search(config(max_trials=9, stop_chance=0.0), evaluator)

    (failed,) = (trial for trial in outcome.study.trials if trial.failure)
    assert failed.candidate == failing
    assert failed.failure is not None
    assert failed.failure.cause == "sparsity_not_reached"
    assert failed.failure.message == f"{failing} was set to fail."
    frozen = optuna_study(database).trials[failed.number]
    assert frozen.state == TrialState.FAIL
    assert frozen.user_attrs["failure"] == "sparsity_not_reached"
    assert outcome.num_trained == 9


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (MemoryError(), "out_of_memory", "The machine ran out of memory."),
        (RuntimeError("a shape is wrong"), "error", "RuntimeError: a shape is wrong"),
    ],
    ids=["memory", "bug"],
)
def test_unexpected_error_in_a_trial_is_stored_as_its_failure(
    search: Search,
    config: Config,
    make_evaluator: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    cause: str,
    message: str,
) -> None:
    evaluator = make_evaluator()
    evaluate = evaluator.evaluate

    def fail_once(candidate: Candidate, seed: int, report: Any) -> Measurement:
        if candidate != BASELINE and len(evaluator.evaluated) == 1:
            evaluator.evaluated.append(candidate)
            report("finetune/held_out_accuracy", 0.75, 10)
            raise error
        measurement: Measurement = evaluate(candidate, seed, report)
        return measurement

    monkeypatch.setattr(evaluator, "evaluate", fail_once)

    outcome = search(config(max_trials=3), evaluator)

    failure = outcome.study.trials[1].failure
    assert failure is not None
    assert (failure.cause, failure.message) == (cause, message)
    assert failure.last_accuracy == 0.75
    assert outcome.num_trained == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_measurement_that_is_no_number_counts_as_a_failure(
    search: Search,
    config: Config,
    make_evaluator: Any,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    evaluator = make_evaluator()
    evaluate = evaluator.evaluate

    def spoil(candidate: Candidate, seed: int, report: Any) -> Measurement:
        measurement: Measurement = evaluate(candidate, seed, report)
        return measurement if candidate == BASELINE else replace(measurement, accuracy=value)

    monkeypatch.setattr(evaluator, "evaluate", spoil)

    outcome = search(config(max_trials=2), evaluator)

    failure = outcome.study.trials[1].failure
    assert failure is not None
    assert failure.cause == "nan"


def test_input_error_stops_the_search_and_leaves_the_trial_to_be_taken_up(
    search: Search, config: Config, make_evaluator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make_evaluator()

    def refuse(*_: object) -> Measurement:
        raise InputError("The checkpoint is damaged.", cause="checkpoint")

    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "evaluate", refuse)
        with pytest.raises(InputError, match=r"^The checkpoint is damaged\.$"):
            search(config(), evaluator)
    outcome = search(config(max_trials=1), evaluator)

    assert [trial.number for trial in outcome.study.trials] == [0]
    assert outcome.study.baseline is not None


def test_mistake_in_the_input_shows_before_anything_is_stored(
    search: Search,
    config: Config,
    make_evaluator: Any,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator = make_evaluator()

    def refuse() -> None:
        raise InputError("There is no file `train.tsv`.", cause="data")

    monkeypatch.setattr(evaluator, "check", refuse)

    with pytest.raises(InputError, match=r"^There is no file"):
        search(config(), evaluator)

    assert Repository(database).list_studies() == []


def test_failed_baseline_ends_the_search_and_is_tried_again_by_the_next(
    search: Search, config: Config, make_evaluator: Any
) -> None:
    broken = make_evaluator(failing=frozenset({BASELINE}), failure_cause="out_of_memory")

    with pytest.raises(
        NoBaselineError, match=r"^The dense baseline failed \(out_of_memory\): N=1"
    ):
        search(config(), broken)
    outcome = search(config(), make_evaluator())

    assert broken.evaluated == [BASELINE]
    assert [t.candidate for t in outcome.study.trials[:2]] == [BASELINE, BASELINE]
    assert outcome.study.baseline is not None


def test_changed_recipe_is_refused_and_named(
    search: Search, config: Config, evaluator: Any
) -> None:
    search(config(max_trials=1), evaluator)

    with pytest.raises(StudyMismatchError, match=r"`search\.seed`: stored 0, now 7"):
        search(config(max_trials=1, seed=7), evaluator)

    assert len(evaluator.evaluated) == 1


def test_changed_data_are_refused(search: Search, config: Config, make_evaluator: Any) -> None:
    search(config(max_trials=1), make_evaluator())
    other = make_evaluator()
    other.task = replace(other.task, baseline_accuracy=0.8)

    with pytest.raises(StudyMismatchError, match=r"^Study `qnli-small` was made with other exam"):
        search(config(max_trials=2), other)

    assert other.evaluated == []


def test_budgets_and_caps_may_change_between_runs(
    search: Search, config: Config, evaluator: Any
) -> None:
    search(config(max_trials=2), evaluator)

    outcome = search(config(max_trials=3, budgets=(0.01, 0.05)), evaluator)

    assert outcome.study.budgets == (0.01, 0.05)
    assert [answer.budget for answer in outcome.answers] == [0.01, 0.05]


def test_optuna_holds_both_objectives_under_their_names(
    search: Search, config: Config, make_evaluator: Any, database: Database
) -> None:
    outcome = search(config(), make_evaluator())

    study = optuna_study(database)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        assert study.metric_names == ["accuracy", "speedup"]
    assert study.user_attrs["task"] == "qnli"
    assert study.user_attrs["budgets_points"] == [2.0]
    for trial, frozen in zip(outcome.study.trials, study.trials, strict=True):
        assert trial.measurement is not None
        assert frozen.state == TrialState.COMPLETE
        assert frozen.values == [trial.measurement.accuracy, trial.measurement.speedup]
        assert frozen.params == {
            "num_instances": trial.candidate.num_instances,
            "sparsity": trial.candidate.sparsity,
        }
        assert frozen.user_attrs["throughput"] == pytest.approx(
            trial.measurement.throughput.throughput, abs=0.01
        )


def test_dashboard_finds_the_distance_to_the_loosest_budget_as_constraint(
    search: Search, config: Config, make_evaluator: Any, database: Database
) -> None:
    outcome = search(config(budgets=(0.01, 0.03), max_trials=5), make_evaluator())

    baseline = outcome.study.baseline
    assert baseline is not None
    frozen = optuna_study(database).trials
    for trial in outcome.study.trials:
        assert trial.measurement is not None
        (excess,) = frozen[trial.number].system_attrs["constraints"]
        loss = baseline.accuracy - trial.measurement.accuracy
        assert excess == pytest.approx(loss - 0.03)
        is_feasible = frozen[trial.number].user_attrs["meets_loosest_budget"]
        assert is_feasible == (loss <= 0.03 + 1e-9)


def test_built_in_data_are_announced_in_optunas_study(
    search: Search,
    config: Config,
    make_evaluator: Any,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator = make_evaluator()
    monkeypatch.setattr(type(evaluator), "data_fingerprint", "builtin:qnli:01", raising=False)

    search(config(max_trials=1), evaluator)

    study = optuna_study(database)
    assert study.user_attrs["data"] == "built-in generator"
    assert study.trials[0].user_attrs["data"] == "built-in"


def test_listener_hears_start_progress_and_end_of_every_trial(
    search: Search, config: Config, evaluator: Any, listener: Any
) -> None:
    outcome = search(config(), evaluator)

    assert [number for number, *_ in listener.started] == [0, 1, 2, 3]
    assert not any(is_resumed for *_, is_resumed in listener.started)
    assert listener.finished == list(outcome.study.trials)
    assert ("finetune/step", 100, 100) in listener.progressed
    assert listener.started[0][2].reason == "the dense baseline is always first"


def test_reason_that_is_stored_is_the_one_that_was_told(
    search: Search, config: Config, evaluator: Any, listener: Any
) -> None:
    outcome = search(config(), evaluator)

    assert [choice for _, _, choice, _ in listener.started] == [
        trial.choice for trial in outcome.study.trials
    ]


def test_second_run_says_that_it_goes_on(
    search: Search, config: Config, evaluator: Any, listener: Any
) -> None:
    search(config(max_trials=2), evaluator)
    assert listener.announced == []

    search(config(max_trials=3), evaluator)

    assert listener.announced == ["study qnli-small goes on: 2 trained trials are stored"]


def test_two_studies_share_a_database(search: Search, config: Config, make_evaluator: Any) -> None:
    first = search(config(name="first"), make_evaluator())
    second = search(config(name="second", seed=3), make_evaluator())

    assert [t.number for t in second.study.trials] == [t.number for t in first.study.trials]
    assert {t.measurement.seed for t in first.study.trials if t.measurement}.isdisjoint(
        t.measurement.seed for t in second.study.trials if t.measurement
    )


def test_trial_queued_by_hand_is_tried(
    search: Search, config: Config, make_evaluator: Any, database: Database
) -> None:
    evaluator = make_evaluator()
    search(config(max_trials=1), evaluator)
    optuna_study(database).enqueue_trial({"num_instances": 5, "sparsity": 0.9})

    outcome = search(config(max_trials=2), evaluator)

    assert evaluator.evaluated == [BASELINE, Candidate(5, 0.9)]
    choice = outcome.study.trials[1].choice
    assert choice is not None
    assert choice.reason == "queued by hand"


def test_candidate_has_one_seed_whenever_its_turn_comes() -> None:
    seeds = [trial_seed(s, c) for s in (0, 1) for c in (BASELINE, Candidate(1, 0.6))]

    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert trial_seed(0, Candidate(1, 0.6)) == trial_seed(0, Candidate(1, 0.60000001))


def test_full_disk_is_one_sentence(
    search: Search, config: Config, make_evaluator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make_evaluator()
    search(config(max_trials=1), evaluator)

    def fail(self: Repository, study: str, number: int, measurement: Measurement) -> None:
        raise StorageError("There is no space left to write `study.db`.")

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "save_measurement", fail)
        with pytest.raises(StorageError, match=r"^There is no space left"):
            search(config(max_trials=2), evaluator)
    outcome = search(config(max_trials=2), evaluator)

    assert outcome.num_trained == 2
