"""Which studies of a database are a prior, and that a search uses them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprumux.errors import StorageError
from autoprumux.evaluators.synthetic import DEFAULT_GRID, SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, StudyRecord, TrialRecord
from autoprumux.search.related import RelatedStudies, others_of
from autoprumux.search.runner import run_study
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.priors import Served
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


def on_cpu(study: StudyRecord, *, processor: str = "Old 1", num_threads: int = 1) -> StudyRecord:
    trials = []
    for trial in study.trials:
        assert trial.measurement is not None
        speed = replace(trial.measurement.throughput, device="cpu", num_threads=num_threads)
        environment = {"processor": processor}
        moved = replace(trial.measurement, throughput=speed, environment=environment)
        trials.append(replace(trial, measurement=moved))
    return replace(study, trials=tuple(trials))


@pytest.mark.parametrize("processor", ["Old 1", ""])
def test_speeds_of_the_same_or_an_unknown_processor_tell_something(processor: str) -> None:
    others = others_of(on_cpu(NEW), [on_cpu(s, processor=processor) for s in OTHERS])

    assert others is not None
    assert others.speedups.means.keys() == set(KNOWN) - {BASELINE}


@pytest.mark.parametrize("change", [{"processor": "New 2"}, {"num_threads": 2}, None])
def test_speeds_of_another_setting_tell_nothing_but_losses_do(
    change: dict[str, Any] | None,
) -> None:
    moved = OTHERS if change is None else [on_cpu(s, **change) for s in OTHERS]
    asked = Candidate(10, 0.0)

    new = on_cpu(NEW)
    plain, told = (predicted(o).predict([asked])[0] for o in (None, others_of(new, moved)))

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
    unused = trainer | {"model": {"source": "small", "wide_source": ""}}

    assert others_of(now, OTHERS) is not None
    assert others_of(replace(NEW, config={"trainer": unused}), OTHERS) is not None
    assert others_of(replace(NEW, config={"trainer": blocks}), OTHERS) is None


class Memory:
    """A prior that is kept in memory."""

    def __init__(self) -> None:
        self.served: Served | None = None

    def load(self) -> Served | None:
        return self.served

    def keep(self, served: Served) -> Served:
        self.served = served if self.served is None else self.served
        return self.served


def test_the_other_studies_are_read_once_and_after_the_baseline() -> None:
    reads = []

    def load() -> list[StudyRecord]:
        reads.append(1)
        return OTHERS

    related = RelatedStudies(load, Memory())

    assert related(replace(NEW, trials=())) is None
    assert reads == []
    first = related(NEW)
    num_reads = len(reads)
    assert first is related(NEW)
    assert len(reads) == num_reads > 0


def test_a_study_that_served_and_is_gone_ends_the_search_with_its_name() -> None:
    memory = Memory()
    RelatedStudies(lambda: OTHERS, memory)(NEW)

    with pytest.raises(StorageError, match=r"^Study `qqp-demo`, which study `mnli-demo` learns"):
        RelatedStudies(lambda: OTHERS[1:], memory)(NEW)


def test_further_processes_learn_from_what_served_the_first_and_from_nothing_else() -> None:
    memory, asked = Memory(), [Candidate(10, 0.0), Candidate(5, 0.6)]
    more = study("qqp", [*KNOWN, Candidate(10, 0.9), Candidate(5, 0.6)], width_loss=0.2)
    third = study("rte", KNOWN, width_loss=0.9)

    first = RelatedStudies(lambda: OTHERS, memory)(NEW)
    later = RelatedStudies(lambda: [third, OTHERS[1], more], memory)(NEW)

    assert first is not None
    assert later is not None
    assert later.names == first.names == ("qqp-demo", "sst2-demo")
    assert predicted(later).predict(asked) == predicted(first).predict(asked)
    assert predicted(later).predict(asked) != predicted(others_of(NEW, [more])).predict(asked)


def test_a_search_that_began_without_a_prior_goes_on_without() -> None:
    memory = Memory()

    assert RelatedStudies(lambda: [NEW], memory)(NEW) is None
    assert RelatedStudies(lambda: [NEW, *OTHERS], memory)(NEW) is None


SAME_TASK = replace(study("mnli", KNOWN, width_loss=0.2), name="mnli-seed1", seed=1)


def test_a_second_seed_narrows_more_than_another_task_that_measured_the_same() -> None:
    other = replace(SAME_TASK, name="qqp-demo", task="qqp")
    asked = [Candidate(10, 0.0), Candidate(10, 0.6)]

    seed, task, nothing = (
        predicted(told).predict(asked)
        for told in (others_of(NEW, [SAME_TASK]), others_of(NEW, [other]), None)
    )

    for of_seed, of_task, alone in zip(seed, task, nothing, strict=True):
        assert of_seed.accuracy_loss_std < 0.7 * of_task.accuracy_loss_std
        assert of_task.accuracy_loss_std < alone.accuracy_loss_std
    assert seed[0].accuracy_loss == pytest.approx(0.2, abs=0.02)


def test_a_third_seed_narrows_further() -> None:
    third = replace(SAME_TASK, name="mnli-seed2", seed=2)
    asked = [Candidate(10, 0.0)]

    two, three = (
        predicted(others_of(NEW, studies)).predict(asked)[0]
        for studies in ([SAME_TASK], [SAME_TASK, third])
    )

    assert three.accuracy_loss_std < 0.98 * two.accuracy_loss_std


@pytest.mark.parametrize(
    "change", [{"seed": 0}, {"data_fingerprint": "others"}], ids=["same seed", "other examples"]
)
def test_the_same_task_is_left_out_unless_only_the_seed_differs(change: dict[str, Any]) -> None:
    assert others_of(NEW, [SAME_TASK]) is not None
    assert others_of(NEW, [replace(SAME_TASK, **change)]) is None


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


def test_a_resumed_search_goes_on_as_an_uninterrupted_one_though_others_have_grown(
    database: Database,
    listener: Any,
    config: Callable[..., Any],
    make_evaluator: Any,
    tmp_path: Path,
) -> None:
    def search(place: Database, name: str, task: str, max_trials: int) -> list[TrialRecord]:
        asked = config(name=name, max_trials=max_trials, stop_chance=0.0)
        asked = replace(asked, trainer=replace(asked.trainer, task=task))
        evaluator = make_evaluator(task=SyntheticTask(name=task))
        return list(run_study(asked, place, evaluator, listener).study.trials)

    whole = open_database(f"sqlite:///{tmp_path}/whole.db")
    search(whole, "one", "qqp", 5)
    uninterrupted = search(whole, "new", "mnli", 7)
    whole.close()

    search(database, "one", "qqp", 5)
    search(database, "new", "mnli", 3)
    search(database, "one", "qqp", 9)
    search(database, "two", "sst2", 6)
    resumed = search(database, "new", "mnli", 7)

    assert [t.candidate for t in resumed] == [t.candidate for t in uninterrupted]
    assert [t.choice for t in resumed] == [t.choice for t in uninterrupted]
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM prumux_priors WHERE study = 'new'").all()
    assert [row[:4] for row in rows] == [("new", 1, "one", 5)]
