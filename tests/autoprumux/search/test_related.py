"""Which studies of a database are a prior, and that a search uses them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from autoprumux.evaluators.synthetic import DEFAULT_GRID, SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, StudyRecord, TrialRecord
from autoprumux.search.related import RelatedStudies, others_of
from autoprumux.search.runner import run_study
from autoprumux.storage.database import Database
from autoprumux.storage.repository import Repository
from autoprumux.surrogates.performance import PerformanceModel
from autoprumux.surrogates.related import Others

BASELINE = Candidate(1, 0.0)
KNOWN = [BASELINE, Candidate(2, 0.0), Candidate(10, 0.0), Candidate(1, 0.95), Candidate(5, 0.8)]
CONFIG = {"trainer": {"model": {"source": "small"}, "prune": {"num_updates": 40}}}


def study(task: str, candidates: Sequence[Candidate], **settings: float) -> StudyRecord:
    evaluator = SyntheticEvaluator(task=SyntheticTask(name=task, **settings))
    trials = tuple(
        TrialRecord(
            number=number,
            candidate=candidate,
            state="complete",
            measurement=evaluator.evaluate(candidate, 0, lambda *_: None),
        )
        for number, candidate in enumerate(candidates)
    )
    return StudyRecord(
        name=f"{task}-demo",
        task=task,
        config=CONFIG,
        config_hash="",
        data_fingerprint="",
        seed=0,
        budgets=(0.02,),
        trials=trials,
    )


NEW = study("mnli", [BASELINE])
OTHERS = [study("qqp", KNOWN, width_loss=0.2), study("sst2", KNOWN, width_loss=0.22)]


def predicted(others: Others | None) -> PerformanceModel:
    return PerformanceModel.from_measured(NEW.measured, {}, DEFAULT_GRID, others=others)


def test_losses_and_speeds_of_other_tasks_are_expected_of_a_new_one() -> None:
    asked = Candidate(10, 0.0)

    plain, told = (predicted(o).predict([asked])[0] for o in (None, others_of(NEW, OTHERS)))

    assert told.accuracy_loss > plain.accuracy_loss + 0.04
    assert told.accuracy_loss == pytest.approx(0.21, abs=0.05)
    assert told.log_speedup_std < 0.5 * plain.log_speedup_std


def test_speeds_of_another_device_tell_nothing_but_losses_do() -> None:
    def elsewhere(trial: TrialRecord) -> TrialRecord:
        assert trial.measurement is not None
        throughput = replace(trial.measurement.throughput, device="cuda")
        return replace(trial, measurement=replace(trial.measurement, throughput=throughput))

    moved = [replace(s, trials=tuple(map(elsewhere, s.trials))) for s in OTHERS]
    asked = Candidate(10, 0.0)

    plain, told = (predicted(o).predict([asked])[0] for o in (None, others_of(NEW, moved)))

    assert (told.speedup, told.log_speedup_std) == (plain.speedup, plain.log_speedup_std)
    assert told.accuracy_loss > plain.accuracy_loss + 0.04


@pytest.mark.parametrize(
    "change",
    [
        {"task": "mnli"},
        {"config": {"trainer": CONFIG["trainer"] | {"model": {"source": "large"}}}},
        {"config": {"trainer": CONFIG["trainer"] | {"prune": {"num_updates": 4000}}}},
        {"trials": OTHERS[0].trials[:3]},
        {"trials": OTHERS[0].trials[1:]},
    ],
    ids=["same task", "other model", "other updates", "three trials", "no baseline"],
)
def test_a_study_that_tells_nothing_of_this_one_is_left_out(change: dict[str, Any]) -> None:
    assert others_of(NEW, [replace(OTHERS[0], **change)]) is None


def test_studies_from_before_blocks_are_related_to_those_of_keys() -> None:
    trainer = CONFIG["trainer"] | {"model": {"source": "small", "widening": "keys"}}
    now = replace(NEW, config={"trainer": trainer | {"narrow": {"num_updates": 1600}}})
    blocks = trainer | {"model": {"source": "small", "widening": "blocks"}}

    assert others_of(now, OTHERS) is not None
    assert others_of(replace(NEW, config={"trainer": blocks}), OTHERS) is None


def test_the_other_studies_are_read_once_and_after_the_baseline() -> None:
    reads = []

    def load() -> list[StudyRecord]:
        reads.append(1)
        return OTHERS

    related = RelatedStudies(load)

    assert related(replace(NEW, trials=())) is None
    assert reads == []
    assert related(NEW) is related(NEW)
    assert reads == [1]


@pytest.mark.parametrize("is_learning", [True, False])
def test_a_search_names_the_studies_that_it_learns_from(
    database: Database,
    listener: Any,
    config: Callable[..., Any],
    make_evaluator: Any,
    is_learning: bool,
) -> None:
    settings = {"max_trials": 6, "stop_chance": 0.0, "learn_from_others": is_learning}
    first, second = config(name="one", max_trials=6), config(name="other", **settings)
    run_study(first, database, make_evaluator(), listener)

    second = replace(second, trainer=replace(second.trainer, task="sst2"))
    run_study(second, database, make_evaluator(), listener)

    trials = Repository(database).load_study("other").trials
    reasons = [trial.choice.reason for trial in trials if trial.choice][1:]
    assert len(reasons) == 5
    assert all(("prior: one" in reason) == is_learning for reason in reasons)
