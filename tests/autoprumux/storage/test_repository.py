import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprumux.errors import StorageError, StudyMismatchError, UnknownStudyError
from autoprumux.records import (
    Candidate,
    Choice,
    Failure,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    Structure,
    StudyRecord,
    Throughput,
)
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

CANDIDATE = Candidate(2, 0.6)
CHOICE = Choice(reason="by hand")
Store = Callable[[Repository, StudyRecord], None]
MakeMeasurement = Callable[..., Measurement]

floats = st.floats(allow_nan=False, allow_infinity=False)
shares = st.floats(0, 1)
positive = st.floats(1e-15, 1e15)
counts = st.integers(min_value=0, max_value=2**31 - 1)
large_counts = st.integers(min_value=0, max_value=2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
points = st.builds(HistoryPoint, name=texts, value=floats, step=counts)
phases = st.builds(
    PhaseRecord,
    name=texts,
    num_updates=counts,
    duration_s=floats,
    memory_mib=floats,
    is_cached=st.booleans(),
    history=st.lists(points, max_size=4).map(tuple),
)
measurements = st.builds(
    Measurement,
    accuracy=shares,
    accuracy_std=positive,
    num_examples=counts,
    num_compositions=counts,
    correctness=st.binary(max_size=300),
    throughput=st.builds(
        Throughput,
        throughput=positive,
        throughput_q1=floats,
        throughput_q3=floats,
        baseline_throughput=positive,
        speedup=positive,
        speedup_q1=floats,
        speedup_q3=floats,
        num_repeats=counts,
        batch_size=counts,
        length=counts,
        dtype=texts,
        device=texts,
        num_threads=counts,
    ),
    sparsity=shares,
    structure=st.builds(
        Structure,
        hidden_size=counts,
        head_counts=st.lists(counts, max_size=12).map(tuple),
        feedforward_sizes=st.lists(counts, max_size=12).map(tuple),
        num_encoder_parameters=large_counts,
        num_parameters=large_counts,
    ),
    phases=st.lists(phases, max_size=4).map(tuple),
    duration_s=floats,
    checkpoint=texts.filter(lambda text: "\0" not in text),  # no path has one
    seed=large_counts,
    environment=st.dictionaries(texts, texts, max_size=4),
)


SHARED_STUDY = StudyRecord(
    name="shared",
    task="qnli",
    config={},
    config_hash="",
    data_fingerprint="",
    seed=0,
    budgets=(),
)


@dataclass(frozen=True)
class Shared:
    """One database for all examples of a property, since making one takes longest."""

    repository: Repository
    numbers: Iterator[int]
    """Trial numbers not used yet."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('shared')}/a.db")
    repository = Repository(database)
    repository.save_study(SHARED_STUDY)
    yield Shared(repository, itertools.count())
    database.close()


@pytest.fixture
def started(repository: Repository, demo_study: StudyRecord) -> Repository:
    """Repository with the demo study, whose trial 0 runs."""
    repository.save_study(demo_study)
    repository.save_start(demo_study.name, 0, CANDIDATE, 7, CHOICE)
    return repository


def test_study_comes_back_as_it_was_saved(
    repository: Repository, demo_study: StudyRecord, store: Store
) -> None:
    store(repository, demo_study)

    assert repository.load_study(demo_study.name) == demo_study


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(measurement=measurements)
def test_measurement_comes_back_bit_by_bit(shared: Shared, measurement: Measurement) -> None:
    repository, number = shared.repository, next(shared.numbers)
    repository.save_start("shared", number, CANDIDATE, 0, CHOICE)

    repository.save_measurement("shared", number, measurement)
    repository.save_measurement("shared", number, measurement)

    assert repository.load_study("shared").trials[-1].measurement == measurement


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    reason=texts,
    numbers=st.lists(st.none() | floats, min_size=7, max_size=7),
    budgets=st.lists(floats, max_size=5).map(tuple),
    cause=texts,
    last_accuracy=st.none() | floats,
)
def test_choice_budgets_and_failure_come_back_bit_by_bit(
    shared: Shared,
    reason: str,
    numbers: list[float | None],
    budgets: tuple[float, ...],
    cause: str,
    last_accuracy: float | None,
) -> None:
    names = (
        *("chance", "chance_best", "expected_speedup", "expected_gain", "log_gain"),
        *("predicted_minutes", "score"),
    )
    choice = Choice(reason=reason, **dict(zip(names, numbers, strict=True)))
    failure = Failure(cause=cause, message=reason, last_accuracy=last_accuracy)
    repository, number = shared.repository, next(shared.numbers)

    repository.save_study(replace(SHARED_STUDY, budgets=budgets))
    repository.save_start("shared", number, CANDIDATE, 0, choice)
    repository.save_failure("shared", number, failure)

    loaded = repository.load_study("shared")
    assert (loaded.budgets, loaded.trials[-1].choice) == (budgets, choice)
    assert loaded.trials[-1].failure == failure


def test_numpy_numbers_are_stored_as_plain_ones(
    started: Repository, demo_study: StudyRecord, demo_measurement: MakeMeasurement
) -> None:
    plain = demo_measurement(CANDIDATE)
    odd: dict[str, Any] = {
        "accuracy": np.float32(0.5),
        "num_examples": np.int64(1000),
        "seed": np.int32(3),
    }
    measurement = replace(plain, **odd)

    started.save_measurement(demo_study.name, 0, measurement)

    loaded = started.load_study(demo_study.name).trials[0].measurement
    assert loaded == replace(plain, accuracy=0.5, num_examples=1000, seed=3)


def test_same_outcome_twice_is_stored_once(
    repository: Repository, demo_study: StudyRecord, store: Store
) -> None:
    store(repository, demo_study)

    store(repository, demo_study)

    assert repository.load_study(demo_study.name) == demo_study


def test_another_measurement_of_a_stored_trial_is_refused(
    started: Repository, demo_study: StudyRecord, demo_measurement: MakeMeasurement
) -> None:
    first = demo_measurement(CANDIDATE)
    started.save_measurement(demo_study.name, 0, first)

    with pytest.raises(StorageError, match="Trial 0 of study `qnli-embedded` is stored already"):
        started.save_measurement(demo_study.name, 0, replace(first, duration_s=1.0))

    assert started.load_study().trials[0].measurement == first


def test_failure_of_a_measured_trial_is_refused(
    started: Repository, demo_study: StudyRecord, demo_measurement: MakeMeasurement
) -> None:
    started.save_measurement(demo_study.name, 0, demo_measurement(CANDIDATE))

    with pytest.raises(StorageError, match="stored already with another measurement"):
        started.save_failure(demo_study.name, 0, Failure(cause="nan", message="Loss is NaN."))


def test_measurement_of_a_trial_that_never_started_is_refused(
    started: Repository, demo_study: StudyRecord, demo_measurement: MakeMeasurement
) -> None:
    with pytest.raises(StorageError, match="Trial 1 of study `qnli-embedded` was never started"):
        started.save_measurement(demo_study.name, 1, demo_measurement(CANDIDATE))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["accuracy", "sparsity", "duration_s"])
def test_measurement_with_a_number_that_is_not_finite_is_refused(
    started: Repository,
    demo_study: StudyRecord,
    demo_measurement: MakeMeasurement,
    name: str,
    value: float,
) -> None:
    change: dict[str, Any] = {name: value}
    broken = replace(demo_measurement(CANDIDATE), **change)

    with pytest.raises(StorageError, match=f"`{name}` of trial 0 must be a finite number"):
        started.save_measurement(demo_study.name, 0, broken)


def test_not_finite_numbers_deep_inside_a_record_are_refused(
    started: Repository, demo_study: StudyRecord, demo_measurement: MakeMeasurement
) -> None:
    whole = demo_measurement(CANDIDATE)
    point = HistoryPoint(name="loss", value=math.nan, step=1)
    phase = replace(whole.phases[0], history=(point,))

    with pytest.raises(StorageError, match="`value` of trial 0 must be a finite number, got nan"):
        started.save_measurement(demo_study.name, 0, replace(whole, phases=(phase,)))
    failure = Failure(cause="nan", message="", last_accuracy=math.nan)
    with pytest.raises(StorageError, match="`last_accuracy` of trial 0 must be"):
        started.save_failure(demo_study.name, 0, failure)
    choice = Choice(reason="", score=math.inf)
    with pytest.raises(StorageError, match="`score` of the choice of trial 1 must be"):
        started.save_start(demo_study.name, 1, CANDIDATE, 0, choice)

    assert [trial.state for trial in started.load_study().trials] == ["running"]


def test_budget_that_is_not_finite_is_refused(
    repository: Repository, demo_study: StudyRecord
) -> None:
    with pytest.raises(StorageError, match="the budgets of study `qnli-embedded` must be"):
        repository.save_study(replace(demo_study, budgets=(math.nan,)))


def test_trial_taken_up_again_keeps_its_first_choice(
    started: Repository, demo_study: StudyRecord
) -> None:
    started.save_start(demo_study.name, 0, CANDIDATE, 7, Choice(reason="later"))

    assert started.load_study().trials[0].choice == CHOICE


@pytest.mark.parametrize(("candidate", "seed"), [(Candidate(5, 0.6), 7), (CANDIDATE, 8)])
def test_number_of_another_trial_is_refused(
    started: Repository, demo_study: StudyRecord, candidate: Candidate, seed: int
) -> None:
    with pytest.raises(StorageError, match=r"is N=2 s=0\.60 with seed 7, not N="):
        started.save_start(demo_study.name, 0, candidate, seed, CHOICE)


def test_study_saved_again_takes_new_budgets_and_configuration(
    repository: Repository, demo_study: StudyRecord, store: Store
) -> None:
    store(repository, demo_study)
    again = replace(demo_study, budgets=(0.03,), config={"search": {"max_trials": 20}})

    repository.save_study(again)

    assert repository.load_study(demo_study.name) == again


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"config_hash": "other"}, "another recipe"),
        ({"data_fingerprint": "other"}, "other data"),
        ({"seed": 1}, "another seed"),
        ({"task": "mnli"}, "another task"),
    ],
)
def test_study_of_another_recipe_is_refused(
    repository: Repository, demo_study: StudyRecord, change: dict[str, Any], sentence: str
) -> None:
    bare = replace(demo_study, trials=())
    repository.save_study(bare)

    with pytest.raises(StudyMismatchError, match=f"`qnli-embedded` was made with {sentence}"):
        repository.save_study(replace(bare, **change, budgets=(0.5,)))

    assert repository.load_study() == bare


def test_study_searched_last_is_loaded_by_default(
    repository: Repository, demo_study_record: Callable[..., StudyRecord]
) -> None:
    for name, task in [("a", "qnli"), ("b", "qnli"), ("c", "sst2")]:
        repository.save_study(demo_study_record(name=name, task=task, trials=()))

    names = [repository.load_study().name, repository.load_study(task="qnli").name]

    assert names == ["c", "b"]
    assert [study.name for study in repository.list_studies()] == ["c", "b", "a"]


def test_unknown_study_is_answered_with_what_is_there(
    repository: Repository, demo_study: StudyRecord
) -> None:
    with pytest.raises(UnknownStudyError, match="holds no studies yet"):
        repository.load_study("a")
    repository.save_study(demo_study)

    with pytest.raises(UnknownStudyError, match="no study of task `mnli`; it holds `qnli-embed"):
        repository.load_study(task="mnli")
    with pytest.raises(UnknownStudyError, match="no study `a`; it holds `qnli-embedded`"):
        repository.claim("a", CANDIDATE, 0)


def test_candidate_is_claimed_once_per_study(
    repository: Repository, demo_study_record: Callable[..., StudyRecord]
) -> None:
    for name in ("a", "b"):
        repository.save_study(demo_study_record(name=name, trials=()))

    answers = [
        repository.claim(name, CANDIDATE, number)
        for name, number in (("a", 0), ("a", 1), ("a", 0), ("b", 1))
    ]

    assert answers == [True, False, True, True]
    assert repository.list_claims("a") == [CANDIDATE]


def test_no_more_candidates_are_claimed_than_the_limit(
    repository: Repository, demo_study_record: Callable[..., StudyRecord]
) -> None:
    repository.save_study(demo_study_record(name="a", trials=()))
    grid = [Candidate(1, 0.1 * k) for k in range(4)]

    answers = [repository.claim("a", c, number, limit=2) for number, c in enumerate(grid)]

    assert answers == [True, True, False, False]


@pytest.mark.parametrize("is_repeatable", [False, True])
def test_only_what_failed_and_may_be_repeated_is_claimed_again(
    repository: Repository, demo_study_record: Callable[..., StudyRecord], is_repeatable: bool
) -> None:
    repository.save_study(demo_study_record(name="a", trials=()))
    failed, running = Candidate(1, 0.0), Candidate(1, 0.6)
    for number, candidate in enumerate((failed, running)):
        assert repository.claim("a", candidate, number)
        repository.save_start("a", number, candidate, 0, Choice(reason="first"))
    repository.save_failure("a", 0, Failure(cause="nan", message="lost"))

    answers = [
        repository.claim("a", candidate, 7, is_repeatable=lambda: is_repeatable)
        for candidate in (failed, running)
    ]

    assert answers == [is_repeatable, False]
