"""Searches whose candidates are (N, s, hyperparameters)."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from autoprumux.answers import answer_budgets
from autoprumux.config import StudyConfig, study_to_dict
from autoprumux.errors import StudyMismatchError, TrialError
from autoprumux.evaluators.base import Report
from autoprumux.evaluators.recording import record_studies
from autoprumux.evaluators.recording_files import load_recording, save_recording
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.exporting.choice import choose_by_budget
from autoprumux.hyperparameters import make_hyperparameter
from autoprumux.records import Candidate, Measurement, StudyRecord
from autoprumux.report.answer_rows import answers_to_csv, answers_to_rows
from autoprumux.report.answers import format_answers, format_outcome
from autoprumux.report.page.front import front_info
from autoprumux.report.page.surfaces import surface_info
from autoprumux.report.page.trials import columns, trial_rows
from autoprumux.search.claims import StoredClaims
from autoprumux.search.runner import SearchOutcome, run_study
from autoprumux.search.space import SearchSpace
from autoprumux.search.told import trial_seed
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.study_files import stored_study
from trainers.config import TrainerConfig

TEMPERATURE, RATE = "trainer.prune.temperature", "trainer.finetune.learning_rate"
ALIGNMENT = "trainer.prune.layer_alignment"
WARM = ((TEMPERATURE, 4.0),)
LISTS: dict[str, Any] = {TEMPERATURE: [1.0, 2.0, 4.0], RATE: [1e-4, 3e-4]}
RANGES: dict[str, Any] = {
    TEMPERATURE: {"low": 1.0, "high": 5.0},
    ALIGNMENT: ["ordered", "free"],
    "trainer.prune.num_updates": {"low": 200, "high": 800, "log": True},
}

Config = Callable[..., StudyConfig]


def searched(config: Config, table: dict[str, Any], **search: object) -> StudyConfig:
    found = tuple(
        make_hyperparameter(key, table[key], TrainerConfig(task="qnli")) for key in sorted(table)
    )
    return config(hyperparameters=found, **search)


def warm_is_better(candidate: Candidate) -> float:
    """A higher temperature brings up to two points, another learning rate costs three."""
    values = dict(candidate.hyperparameters)
    temperature, rate = values.get(TEMPERATURE, 2.0), values.get(RATE, 3e-4)
    return 0.01 * (2.0 - float(temperature)) + (0.03 if rate != 3e-4 else 0.0)


def make_evaluator(**settings: Any) -> SyntheticEvaluator:
    return SyntheticEvaluator(setting_loss=warm_is_better, **settings)


def search(
    study: StudyConfig, database: Database, listener: Any, **settings: Any
) -> SearchOutcome:
    return run_study(study, database, make_evaluator(**settings), listener)


def candidates(record: StudyRecord) -> list[Candidate]:
    return [trial.candidate for trial in record.trials]


SAMPLERS = [
    *[(sampler, LISTS) for sampler in ("performance_model", "nsga2")],
    *[(sampler, RANGES) for sampler in ("performance_model", "random", "tpe", "gp")],
]


@pytest.mark.parametrize(("sampler", "table"), SAMPLERS)
def test_every_sampler_searches_values_and_never_twice_the_same_candidate(
    config: Config, database: Database, listener: Any, sampler: str, table: dict[str, Any]
) -> None:
    study = searched(config, table, sampler=sampler, max_trials=7, stop_chance=0.0)

    record = search(study, database, listener).study

    tried = candidates(record)
    assert tried[0] == Candidate(1, 0.0)
    assert len(set(tried)) == len(tried) == 7
    assert any(candidate.hyperparameters for candidate in tried)


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_samplers_of_all_values_end_when_all_are_tried(
    config: Config, database: Database, listener: Any, sampler: str
) -> None:
    study = searched(
        config,
        LISTS,
        sampler=sampler,
        max_trials=99,
        widths=(1, 2),
        sparsities=(0.0, 0.6),
        stop_chance=0.0,
    )
    space = SearchSpace.from_config(study.search)

    outcome = search(study, database, listener)

    assert space.num_points == 2 * (2 + 6)  # temperature does not concern dense models
    assert set(candidates(outcome.study)) == set(space.points(0, 0))
    assert outcome.stop_reason == "all 16 candidates are tried"


def test_another_setting_of_a_measured_cell_wins_the_answer(
    config: Config, database: Database, listener: Any
) -> None:
    study = searched(config, {TEMPERATURE: LISTS[TEMPERATURE]}, budgets=(0.04,), max_trials=14)

    outcome = search(study, database, listener)

    evaluator = make_evaluator()
    plain = evaluator.optimum(0.04, SearchSpace.from_config(study.search).candidates)
    best = outcome.answers[0].best
    assert best is not None
    assert best.candidate == Candidate(2, 0.9, WARM)  # loses 5.2 points with the study's own
    assert best.speedup > evaluator.task.speedup(plain)
    assert outcome.study.best_settings[Candidate(2, 0.9)] == best.candidate
    assert outcome.num_candidates == 9


def test_a_cell_scores_with_its_best_setting_and_the_baseline_with_its_own(
    config: Config, database: Database, listener: Any
) -> None:
    study = searched(
        config,
        {TEMPERATURE: LISTS[TEMPERATURE]},
        sampler="grid",
        max_trials=99,
        widths=(1, 2),
        sparsities=(0.0, 0.6),
        stop_chance=0.0,
    )

    record = search(study, database, listener).study

    assert record.best_settings == {
        Candidate(1, 0.0): Candidate(1, 0.0),
        Candidate(1, 0.6): Candidate(1, 0.6, WARM),
        Candidate(2, 0.0): Candidate(2, 0.0),
        Candidate(2, 0.6): Candidate(2, 0.6, WARM),
    }
    assert record.baseline == record.measured[Candidate(1, 0.0)]
    assert record.by_cell[Candidate(2, 0.6)] == record.measured[Candidate(2, 0.6, WARM)]


def test_optuna_holds_all_values_so_that_its_plots_see_them(
    config: Config, database: Database, listener: Any
) -> None:
    study = searched(config, LISTS | {ALIGNMENT: ["ordered", "free"]}, max_trials=12)

    record = search(study, database, listener).study

    stored = optuna.load_study(study_name=record.name, storage=database.optuna_storage())
    assert stored.trials[0].params == {
        "num_instances": 1,
        "sparsity": 0.0,
        RATE: 3e-4,
        ALIGNMENT: "ordered",
        TEMPERATURE: 2.0,
    }
    space = SearchSpace.from_config(study.search)
    assert [space.candidate_of(trial) for trial in stored.trials] == candidates(record)
    importances = optuna.importance.get_param_importances(
        stored,
        evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=8, seed=0),
        target=lambda trial: trial.values[0],
    )
    assert {RATE, TEMPERATURE, ALIGNMENT} <= set(importances)


def test_sql_shows_values_of_every_trial(
    config: Config, database: Database, listener: Any, tmp_path: Path
) -> None:
    study = searched(config, {TEMPERATURE: LISTS[TEMPERATURE]}, budgets=(0.04,), max_trials=14)
    record = search(study, database, listener).study

    with sqlite3.connect(tmp_path / "study.db") as connection:
        shown = connection.execute(
            "SELECT number, hyperparameters FROM prumux_trials ORDER BY number"
        ).fetchall()
        winner = connection.execute(
            "SELECT num_instances, sparsity, json_extract(hyperparameters, ?) "
            "FROM prumux_best_by_budget",
            (f'$."{TEMPERATURE}"',),
        ).fetchall()
        values = connection.execute(
            "SELECT h.number, CAST(h.value AS REAL), h.is_own FROM prumux_hyperparameters h "
            f"WHERE h.study = 'qnli-small' AND h.name = '{TEMPERATURE}' ORDER BY h.number"
        ).fetchall()
    connection.close()

    assert shown[0] == (0, "{}")
    assert winner == [(2, 0.9, 4.0)]
    assert values == [
        (
            t.number,
            dict(t.candidate.hyperparameters).get(TEMPERATURE, 2.0),
            not t.candidate.hyperparameters,
        )
        for t in record.trials
    ]


def test_seed_of_a_training_follows_the_values() -> None:
    seeds = {
        trial_seed(0, candidate)
        for candidate in (
            Candidate(2, 0.6),
            Candidate(2, 0.6, WARM),
            Candidate(2, 0.6, ((TEMPERATURE, 3.0),)),
            Candidate(2, 0.6, ((RATE, 4.0),)),
        )
    }

    assert len(seeds) == 4
    assert trial_seed(0, Candidate(2, 0.6)) == 1961683484  # as before schema 5


@pytest.mark.parametrize("table", [{TEMPERATURE: [1.0, 2.0]}, {}, RANGES])
def test_a_study_goes_on_with_the_same_lists_only(
    config: Config, database: Database, listener: Any, table: dict[str, Any]
) -> None:
    first = searched(config, {TEMPERATURE: [2.0, 4.0]}, max_trials=3)
    search(first, database, listener)

    with pytest.raises(StudyMismatchError, match=r"hyperparameters\.trainer\.prune\.temperature"):
        search(searched(config, table, max_trials=4), database, listener)

    more = searched(config, {TEMPERATURE: [2.0, 4.0]}, max_trials=4)
    assert len(search(more, database, listener).study.trials) == 4


@pytest.mark.parametrize("sampler", ["performance_model", "random"])
def test_drawn_values_follow_the_seed_of_the_study_and_the_number_of_the_trial(
    config: Config, database: Database, listener: Any, sampler: str
) -> None:
    settings = {"sampler": sampler, "max_trials": 3, "stop_chance": 0.0}
    found = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        study = searched(config, RANGES, name=name, seed=seed, **settings)
        record = search(study, database, listener).study
        space, values = SearchSpace.from_config(study.search), set()
        for trial in record.trials:
            assert trial.candidate in space.points(seed, trial.number)
            values |= set(space.points(seed, trial.number)) - set(space.candidates)
        found.append((candidates(record), values))

    assert found[0] == found[1]
    assert not found[0][1] & found[2][1]


class Killed(BaseException):
    """Stands for `kill -9`."""


@pytest.mark.parametrize(
    ("sampler", "owner", "name"),
    [
        pytest.param("performance_model", StoredClaims, "take", id="claimed"),
        pytest.param("performance_model", Repository, "save_measurement", id="measured"),
        pytest.param("tpe", Repository, "save_start", id="started"),
    ],
)
def test_a_killed_search_goes_on_as_an_undisturbed_one(
    config: Config,
    database: Database,
    listener: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    owner: type,
    name: str,
) -> None:
    study = searched(config, RANGES, sampler=sampler, max_trials=6, stop_chance=0.0)
    plain = open_database(f"sqlite:///{tmp_path}/undisturbed.db")
    undisturbed = search(study, plain, listener).study
    plain.close()
    original, calls = getattr(owner, name), []

    def dying(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments, **options)
        calls.append(name)
        if len(calls) == 4:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Killed):
            search(study, database, listener)

    record = search(study, database, listener).study
    assert candidates(record) == candidates(undisturbed)


class NanEvaluator(SyntheticEvaluator):
    """No training with a high temperature yields a number."""

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        if dict(candidate.hyperparameters).get(TEMPERATURE) == 4.0:
            raise TrialError("The loss is not a number.", cause="nan")
        return super().evaluate(candidate, seed, report)


def test_values_that_yield_no_number_are_not_taken_for_all_cells(
    config: Config, database: Database, listener: Any
) -> None:
    study = searched(config, {TEMPERATURE: [2.0, 4.0]}, budgets=(0.03,), max_trials=12)

    record = run_study(study, database, NanEvaluator(), listener).study

    failed = [t for t in record.trials if t.failure is not None]
    assert len(failed) <= 2
    assert len(record.by_cell) >= 5


def test_a_cell_that_failed_is_left_alone(
    config: Config, database: Database, listener: Any
) -> None:
    study = searched(config, LISTS, max_trials=12, stop_chance=0.0)
    failing = frozenset(
        Candidate(1, 0.9, setting) for setting in ((), WARM, ((TEMPERATURE, 1.0),))
    )

    record = search(study, database, listener, failing=failing).study

    assert sum(c.cell == Candidate(1, 0.9) for c in candidates(record)) == 1


def test_two_workers_may_claim_two_settings_of_a_cell_but_not_one(
    config: Config, database: Database, listener: Any
) -> None:
    search(searched(config, LISTS, max_trials=1), database, listener)
    repository, cell = Repository(database), Candidate(2, 0.6)

    claims = [
        repository.claim("qnli-small", candidate, number)
        for number, candidate in enumerate([cell, Candidate(2, 0.6, WARM), cell], start=7)
    ]

    assert claims == [True, True, False]
    assert {cell, Candidate(2, 0.6, WARM)} <= set(repository.list_claims("qnli-small"))


@pytest.fixture
def tuned(config: Config, database: Database, listener: Any) -> SearchOutcome:
    """A search whose answer is not the study's own setting."""
    study = searched(config, {TEMPERATURE: LISTS[TEMPERATURE]}, budgets=(0.04,), max_trials=14)
    return search(study, database, listener)


def test_output_names_the_values_that_won(tuned: SearchOutcome) -> None:
    record, answers = tuned.study, tuned.answers

    printed = format_outcome(tuned, "sqlite:///study.db")

    assert "Within 4.0 points: N=2 s=0.90 prune.temperature=4, verified." in printed
    assert "  hyperparameters: prune.temperature 4\n" in printed
    assert "of 9 candidates (N, s) in" in printed
    assert "prune.temperature=4" in format_answers(record, answers)
    assert answers_to_rows(answers)[0]["best"]["hyperparameters"] == dict(WARM)
    assert '"{""trainer.prune.temperature"": 4.0}"' in answers_to_csv(answers)
    assert choose_by_budget(record, [0.04]).model.candidate.hyperparameters == WARM


def test_report_has_a_column_and_maps_of_the_best_settings(tuned: SearchOutcome) -> None:
    record = tuned.study
    names = [column.name for column in columns(record)]
    rows = trial_rows(record, record.trials)
    assert record.baseline is not None

    front = front_info(record, record.budgets)
    surface = surface_info(record, record.baseline)

    assert names[3] == "hyperparameters"
    assert rows[0][3].text == "the study's own"
    assert "prune.temperature=4" in [row[3].text for row in rows]
    assert {len(row) for row in rows} == {len(names)}
    assert Candidate(2, 0.9, WARM) in [point.candidate for point in front.combined[2]]
    best = record.by_cell[Candidate(2, 0.9)].accuracy
    shown = surface.cells[surface.widths.index(2)][surface.sparsities.index(0.9)]
    assert shown.accuracy == best


def test_a_recording_keeps_all_values_and_is_replayed_with_the_best(
    tuned: SearchOutcome, tmp_path: Path
) -> None:
    recording = record_studies([tuned.study], name="tuned", recorded="2026-01-01")

    save_recording(recording, tmp_path)
    loaded = load_recording(str(tmp_path / "tuned.csv"))

    assert [t.candidate for t in loaded.trials] == sorted(candidates(tuned.study))
    assert "search.hyperparameters.trainer.prune.temperature=[1.0, 2.0, 4.0]" in str(
        loaded.commands
    )
    best = loaded.of_best_settings()
    assert {t.candidate: t.measurement.accuracy for t in best.trials if t.measurement} == {
        cell: measurement.accuracy for cell, measurement in tuned.study.by_cell.items()
    }
    assert loaded.as_study(0).by_cell.keys() == tuned.study.by_cell.keys()


def test_answers_of_a_stored_study_equal_those_of_the_search(
    tuned: SearchOutcome, database: Database
) -> None:
    record = Repository(database).load_study("qnli-small")

    assert record == tuned.study
    assert answer_budgets(record, record.budgets) == tuned.answers
    assert record.config == study_to_dict(stored_study(record))


def test_values_queued_by_hand_in_optuna_are_trained(
    config: Config, database: Database, listener: Any
) -> None:
    study = searched(config, {TEMPERATURE: [1.0, 2.0, 4.0]}, max_trials=2)
    search(study, database, listener)
    stored = optuna.load_study(study_name="qnli-small", storage=database.optuna_storage())
    stored.enqueue_trial({"num_instances": 2, "sparsity": 0.6, TEMPERATURE: 3.0})

    more = searched(config, {TEMPERATURE: [1.0, 2.0, 4.0]}, max_trials=3)
    record = search(more, database, listener).study

    assert candidates(record)[-1] == Candidate(2, 0.6, ((TEMPERATURE, 3.0),))
    assert stored.get_trials(states=(TrialState.WAITING,)) == []
