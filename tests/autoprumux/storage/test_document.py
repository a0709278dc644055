import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from autoprumux.answers import answer_budgets, pareto_front
from autoprumux.records import Candidate, DeviceProfile, StudyRecord
from autoprumux.storage.database import Database
from autoprumux.storage.profiles import ProfileRepository
from autoprumux.storage.schema import METADATA
from autoprumux.storage.views import VIEWS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "storage.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT, flags=re.DOTALL)


def section(name: str) -> str:
    """Yield what the document says under the heading of a table or view."""
    return DOCUMENT.split(f"### {name}\n", 1)[1].split("\n#", 1)[0]


def test_document_has_ten_queries() -> None:
    assert len(QUERIES) == 10


def ask(database: Database, place: int) -> list[dict[str, Any]]:
    """Yield the rows of a query of the document on the demo study."""
    with database.read() as connection:
        rows = connection.exec_driver_sql(QUERIES[place]).mappings().all()
    assert len(rows) > 0
    assert all(value is not None for value in rows[0].values())
    return [dict(row) for row in rows]


def test_all_trials_come_in_order(demo_database: Database, demo_study: StudyRecord) -> None:
    rows = ask(demo_database, 0)

    assert [row["number"] for row in rows] == [trial.number for trial in demo_study.trials]
    assert [row["state"] for row in rows] == [trial.state for trial in demo_study.trials]


def test_every_declared_budget_has_its_best(
    demo_database: Database, demo_study: StudyRecord
) -> None:
    rows = ask(demo_database, 1)

    answers = answer_budgets(demo_study, demo_study.budgets)
    assert [row["speedup"] for row in rows] == [a.best.speedup for a in answers if a.best]
    assert [row["budget_points"] for row in rows] == [1.0, 2.0, 10.0]


def test_the_fastest_within_three_points_is_found(
    demo_database: Database, demo_study: StudyRecord
) -> None:
    (row,) = ask(demo_database, 2)

    (answer,) = answer_budgets(demo_study, [0.03])
    assert answer.best is not None
    assert row["speedup"] == answer.best.speedup


def test_time_by_phase_adds_up(demo_database: Database, demo_study: StudyRecord) -> None:
    rows = ask(demo_database, 3)

    measured = demo_study.measured.values()
    phases = [p for m in measured for p in m.phases if not p.is_cached]
    assert sum(row["num_runs"] for row in rows) == len(phases)
    assert sum(row["minutes"] for row in rows) == pytest.approx(
        sum(phase.duration_s for phase in phases) / 60
    )


def test_held_out_accuracies_come_by_trial_and_phase(demo_database: Database) -> None:
    rows = ask(demo_database, 4)

    assert {row["phase"] for row in rows} == {"prime", "finetune", "prune", "finetune_pruned"}
    assert {row["held_out_accuracy"] for row in rows} == {0.84}
    assert [row["number"] for row in rows] == sorted(row["number"] for row in rows)


def test_failures_have_cause_and_message(demo_database: Database) -> None:
    (row,) = ask(demo_database, 5)

    assert (row["num_instances"], row["cause"]) == (10, "sparsity_not_reached")
    assert row["message"] == "Pruning reached 0.91 of the requested 0.95."


def test_the_front_is_that_of_the_answers(
    demo_database: Database, demo_study: StudyRecord
) -> None:
    rows = ask(demo_database, 6)

    front = pareto_front(demo_study.measured)
    assert [row["speedup"] for row in rows] == [m.speedup for _, m in front]


def test_predictions_stand_beside_what_came_of_them(
    demo_database: Database, demo_study: StudyRecord
) -> None:
    rows = ask(demo_database, 7)

    assert len(rows) == len(demo_study.measured)
    for row in rows:
        measured = demo_study.measured[Candidate(row["num_instances"], row["sparsity"])]
        assert row["speedup"] == measured.speedup
        assert row["minutes"] == pytest.approx(measured.duration_s / 60)
        assert row["predicted_minutes"] == 1.1


def test_structures_are_those_of_pruned_models(demo_database: Database) -> None:
    rows = ask(demo_database, 8)

    assert [row["sparsity"] for row in rows] == sorted(row["sparsity"] for row in rows)
    assert all(row["sparsity"] > 0 for row in rows)
    assert all(len(json.loads(row["head_counts"])) == 4 for row in rows)


def test_every_hardware_has_a_row_per_model_timed_there(
    demo_database: Database, demo_study: StudyRecord
) -> None:
    own = demo_study.measured[Candidate(2, 0.0)].throughput
    profile = DeviceProfile(
        name="laptop",
        device="cpu",
        processor="Imaginary 9000",
        dtype="float32",
        batch_size=own.batch_size,
        length=own.length,
        num_threads=own.num_threads,
    )
    number = next(t.number for t in demo_study.trials if t.candidate == Candidate(2, 0.0))
    timed = replace(own, throughput=99.0)
    ProfileRepository(demo_database).save_throughputs(profile, demo_study.name, [(number, timed)])

    rows = ask(demo_database, 9)

    assert len(rows) == len(demo_study.measured) + 1
    (there,) = (row for row in rows if row["hardware"] == "laptop")
    assert (there["num_instances"], there["throughput"]) == (2, 99.0)
    assert {row["hardware"] for row in rows} == {"laptop", "the search"}


@pytest.mark.parametrize("name", sorted([*METADATA.tables, *VIEWS]))
def test_document_names_every_column(database: Database, name: str) -> None:
    with database.read() as connection:
        columns = {column["name"] for column in sa.inspect(connection).get_columns(name)}

    assert columns - set(re.findall(r"`(\w+)`", section(name))) == set()


@pytest.mark.parametrize("name", sorted(METADATA.tables))
def test_document_names_no_column_that_is_not_there(name: str) -> None:
    named = re.findall(r"^\| (`.*?) \|", section(name), flags=re.MULTILINE)

    columns = {column for cell in named for column in re.findall(r"`(\w+)`", cell)}
    assert columns <= set(METADATA.tables[name].columns.keys())
