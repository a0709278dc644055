import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprumux.answers import answer_budgets, pareto_front
from autoprumux.records import Candidate, Choice, Measurement, RunnerUp, StudyRecord
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.storage.views import VIEWS

CONFIG = {"search": {"widths": [1, 2, 5, 10], "sparsities": [0.0, 0.6, 0.8, 0.95]}}


def rows_of(database: Database, query: str) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def test_views_can_be_read_by_sqlite_alone(
    demo_database: Database, demo_study: StudyRecord, tmp_path: Path
) -> None:
    connection = sqlite3.connect(tmp_path / "autoprumux.db")

    cursor = connection.execute("select * from prumux_trials order by number")
    columns = [column[0] for column in cursor.description]
    first = cursor.fetchone()
    connection.close()

    assert columns[:12] == [
        "study",
        "number",
        "num_instances",
        "sparsity",
        "sparsity_achieved",
        "accuracy",
        "accuracy_loss_points",
        "throughput",
        "speedup",
        "state",
        "duration_s",
        "reason",
    ]
    assert first[:11] == (
        "qnli-embedded",
        0,
        1,
        0.0,
        0.0,
        0.91,
        0.0,
        1200.0,
        1.0,
        "complete",
        50.0,
    )
    assert not any(isinstance(value, bytes) for value in first)


def test_trials_view_tells_what_the_repository_tells(
    demo_database: Database, demo_study: StudyRecord
) -> None:
    rows = rows_of(demo_database, "SELECT * FROM prumux_trials ORDER BY number")

    told = [(r["number"], r["num_instances"], r["sparsity"], r["state"]) for r in rows]
    assert told == [
        (t.number, t.candidate.num_instances, t.candidate.sparsity, t.state)
        for t in demo_study.trials
    ]
    assert [(r["accuracy"], r["speedup"]) for r in rows if r["state"] == "complete"] == [
        (m.accuracy, m.speedup) for m in demo_study.measured.values()
    ]


def test_accuracy_loss_is_in_points_and_free_of_binary_noise(
    repository: Repository,
    database: Database,
    demo_study_record: Callable[..., StudyRecord],
    demo_measurement: Callable[..., Measurement],
    store: Callable[[Repository, StudyRecord], None],
) -> None:
    study = demo_study_record(budgets=(0.01, 0.07))
    baseline, other = study.trials[:2]
    assert other.measurement is not None
    on_the_border = replace(other, measurement=replace(other.measurement, accuracy=0.90))
    store(repository, replace(study, trials=(baseline, on_the_border)))

    rows = rows_of(database, "SELECT * FROM prumux_trials ORDER BY number")

    assert [row["accuracy_loss_points"] for row in rows] == [0.0, 1.0]
    assert [row["tightest_budget_points"] for row in rows] == [1.0, 1.0]
    best = rows_of(database, "SELECT * FROM prumux_best_by_budget ORDER BY budget_points")
    assert [(row["budget_points"], row["number"]) for row in best] == [(1.0, 1), (7.0, 1)]


def test_running_trial_and_missing_baseline_leave_blanks(
    repository: Repository,
    database: Database,
    demo_study: StudyRecord,
    demo_measurement: Callable[..., Measurement],
) -> None:
    candidate = Candidate(2, 0.6)
    repository.save_study(demo_study)
    for number in (0, 1):
        repository.save_start(demo_study.name, number, candidate, 0, Choice(reason="by hand"))
    repository.save_measurement(demo_study.name, 0, demo_measurement(candidate))

    rows = rows_of(database, "SELECT * FROM prumux_trials ORDER BY number")
    best = rows_of(database, "SELECT * FROM prumux_best_by_budget")

    assert [row["state"] for row in rows] == ["complete", "running"]
    assert [row["accuracy_loss_points"] for row in rows] == [None, None]
    assert [row["number"] for row in best] == [None, None, None]


def test_front_is_that_of_the_query(demo_database: Database, demo_study: StudyRecord) -> None:
    rows = rows_of(demo_database, "SELECT * FROM prumux_front ORDER BY speedup")

    told = [Candidate(row["num_instances"], row["sparsity"]) for row in rows]
    assert told == [candidate for candidate, _ in pareto_front(demo_study.measured)]
    assert 1 < len(told) < len(demo_study.measured)


def test_of_two_equal_models_the_front_keeps_the_narrower(
    repository: Repository,
    database: Database,
    demo_study: StudyRecord,
    store: Callable[[Repository, StudyRecord], None],
) -> None:
    first, second = demo_study.trials[:2]
    equal = replace(second, measurement=first.measurement)
    store(repository, replace(demo_study, trials=(first, equal)))

    rows = rows_of(database, "SELECT number FROM prumux_front")

    assert rows == [{"number": 0}]


def test_best_by_budget_is_the_answer_of_the_query(
    repository: Repository,
    database: Database,
    demo_study_record: Callable[..., StudyRecord],
    store: Callable[[Repository, StudyRecord], None],
) -> None:
    budgets = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.5)
    study = demo_study_record(budgets=budgets, config=CONFIG)
    store(repository, study)

    rows = rows_of(database, "SELECT * FROM prumux_best_by_budget ORDER BY budget_points")

    told = [Candidate(row["num_instances"], row["sparsity"]) for row in rows]
    assert [row["budget_points"] for row in rows] == [0, 0.5, 1, 2, 3, 5, 10, 50]
    answers = answer_budgets(study, budgets)
    assert told == [answer.best.candidate for answer in answers if answer.best]
    assert len(set(told)) > 3


def test_studies_do_not_mix(
    repository: Repository,
    database: Database,
    demo_study: StudyRecord,
    store: Callable[[Repository, StudyRecord], None],
) -> None:
    store(repository, demo_study)
    alone = {view: rows_of(database, f"SELECT * FROM {view}") for view in VIEWS}
    store(repository, replace(demo_study, name="other", trials=demo_study.trials[1:4]))

    for view, rows in alone.items():
        query = f"SELECT * FROM {view} WHERE study = 'qnli-embedded'"
        told = [_timeless(row) for row in rows_of(database, query)]
        assert sorted(told, key=str) == sorted(map(_timeless, rows), key=str)


def test_failures_and_environment_are_told(demo_database: Database) -> None:
    failures = rows_of(demo_database, "SELECT * FROM prumux_failures")
    environment = rows_of(demo_database, "SELECT * FROM prumux_environment WHERE number = 0")

    assert [(row["number"], row["cause"]) for row in failures] == [(9, "sparsity_not_reached")]
    assert {row["name"]: row["value"] for row in environment}["torch"] == "2.13.0"


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_a_lost_or_altered_view_is_made_anew(
    demo_database: Database, storage_url: str, view: str
) -> None:
    before = rows_of(demo_database, f"SELECT * FROM {view}")
    with demo_database.write() as connection:
        connection.exec_driver_sql(f"DROP VIEW {view}")
        connection.exec_driver_sql("UPDATE prumux_schema_version SET views_hash = 'old'")
    demo_database.close()

    again = open_database(storage_url)

    assert rows_of(again, f"SELECT * FROM {view}") == before
    again.close()


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.endswith("_at")}


def test_choices_view_shows_the_chosen_candidate_and_those_it_was_chosen_before(
    repository: Repository, database: Database, demo_study_record: Callable[..., StudyRecord]
) -> None:
    study = demo_study_record()
    repository.save_study(study)
    numbers = {"expected_speedup": 4.0, "expected_gain": 1.5, "predicted_minutes": 2.0}
    factors = {"chance_best": 0.25, "log_gain": 0.4}
    others = tuple(
        RunnerUp(candidate=Candidate(2, s), chance=0.5, score=score, **numbers, **factors)
        for s, score in ((0.6, 0.3), (0.8, 0.2))
    )
    choice = Choice(reason="chance 0.82", chance=0.82, score=0.4, runners_up=others)

    repository.save_start(study.name, 0, Candidate(5, 0.6), 7, choice)

    rows = rows_of(database, "SELECT * FROM prumux_choices ORDER BY number, place")
    told = [(r["place"], r["num_instances"], r["sparsity"], r["chance"], r["score"]) for r in rows]
    assert told == [(0, 5, 0.6, 0.82, 0.4), (1, 2, 0.6, 0.5, 0.3), (2, 2, 0.8, 0.5, 0.2)]
    assert [row["reason"] for row in rows] == ["chance 0.82", None, None]
    told_factors = [(row["chance_best"], row["log_gain"]) for row in rows]
    assert told_factors == [(None, None), (0.25, 0.4), (0.25, 0.4)]
    assert repository.load_study(study.name).trials[0].choice == choice
