import csv
import json
import re
import sqlite3

import pytest
from command_line import QUERY, SEARCH, BuiltinEvaluator, assert_refused, run, run_python

import autoprumux
from autoprumux.errors import TrialError
from autoprumux.storage.database import open_database


@pytest.mark.usefixtures("finished")
def test_a_query_answers_every_budget_of_a_range():
    result = run([*QUERY, "--budget", "0:10:0.5", "--json"])

    answers = json.loads(result.stdout)
    assert len(answers) == 21
    speedups = [answer["best"]["speedup"] for answer in answers]
    assert speedups == sorted(speedups)
    for answer in answers:
        assert answer["best"]["accuracy_loss"] <= answer["budget"] + 1e-9


@pytest.mark.usefixtures("finished")
def test_a_query_needs_neither_torch_nor_optuna():
    code = (
        "import sys\n"
        "from autoprumux.cli.main import app\n"
        f"app({QUERY!r}, standalone_mode=False)\n"
        "print({'torch', 'transformers', 'datasets', 'optuna'} & set(sys.modules))\n"
    )

    found = run_python(code)

    assert found.stdout.splitlines()[-1] == "set()"


def test_a_query_without_a_database_makes_none(folder):
    result = run(QUERY)

    assert result.exit_code == 1
    assert re.match(r"error: There is no database at `study\.db`\.", result.stderr)
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("finished")
def test_sql_python_and_the_command_line_give_the_same_answers(finished):
    with sqlite3.connect(finished) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(
            "SELECT * FROM prumux_best_by_budget ORDER BY budget_points"
        ).fetchall()
    connection.close()
    printed = json.loads(run([*QUERY, "--json"]).stdout)
    found = autoprumux.query(storage="sqlite:///study.db")
    of_list = autoprumux.query(budget=[1, 3.0], storage="sqlite:///study.db")

    assert [row["budget_points"] for row in rows] == [1.0, 3.0]
    assert found.answers == of_list.answers
    for row, answer, as_json in zip(rows, found.answers, printed, strict=True):
        best = answer.best
        assert best is not None
        assert (row["num_instances"], row["sparsity"]) == (
            best.candidate.num_instances,
            best.candidate.sparsity,
        )
        assert row["accuracy_loss_points"] == pytest.approx(100 * best.accuracy_loss)
        assert row["speedup"] == best.speedup == as_json["best"]["speedup"]
        assert row["num_instances"] == as_json["best"]["num_instances"]
        assert row["checkpoint"] == as_json["best"]["checkpoint"]


@pytest.mark.usefixtures("finished")
def test_a_number_is_a_budget_too():
    assert (
        autoprumux.query(budget=2, storage="sqlite:///study.db").answers
        == autoprumux.query(budget="2", storage="sqlite:///study.db").answers
    )


@pytest.mark.usefixtures("finished")
def test_csv_has_the_numbers_of_json_one_line_per_model():
    as_csv = run([*QUERY, "--budget", "0:4:1", "--csv"])
    as_json = json.loads(run([*QUERY, "--budget", "0:4:1", "--json"]).stdout)

    rows = list(csv.DictReader(as_csv.stdout.splitlines()))
    best = [row for row in rows if row["role"] == "best"]
    assert [float(row["budget"]) for row in best] == [answer["budget"] for answer in as_json]
    for row, answer in zip(best, as_json, strict=True):
        assert float(row["speedup"]) == answer["best"]["speedup"]
        assert row["status"] == "verified"
    num_predicted = sum(len(answer["predicted"]) for answer in as_json)
    assert sum(row["role"] == "predicted" for row in rows) == num_predicted
    chances = [float(row["chance"]) for row in rows if row["role"] == "predicted"]
    assert all(0 <= chance <= 1 for chance in chances)


@pytest.mark.usefixtures("finished")
def test_the_rule_that_decides_is_printed():
    plain = run([*QUERY, "--budget", "3"])
    sure = run([*QUERY, "--budget", "3", "--confidence", "0.95"])

    assert "a measured model is within a budget if its measured loss is\n" in plain.stdout
    assert "the chance that its true loss is within it is at least 0.95" in sure.stdout


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--confidence", "0.5"], r"`--confidence` must be above 0\.5 and below 1, got 0\.5; .*"),
        (["--confidence", "90"], r"`--confidence` must be above 0\.5 and below 1, got 90; .*"),
        (["--budget", "2;3"], "`--budget` must be points such as 2, a list .* got '2;3'\\."),
        (["--device-profile", "phone"], "`--device-profile` 'phone' is unknown; no device .*"),
        (["--batch-size", "7"], "No stored speeds have `--batch-size` 7; .*"),
        (["--json", "--csv"], "`--json` and `--csv` exclude each other; give one of them\\."),
    ],
)
def test_an_unusable_question_is_refused(arguments, message):
    assert_refused(run([*QUERY, *arguments]), message, exit_code=2)


@pytest.mark.usefixtures("finished")
def test_without_failures_and_profiles_the_lists_say_so():
    failures, profiles = run([*QUERY, "--failures"]), run([*QUERY, "--device-profiles"])

    assert failures.stdout == "study qnli-embedded: 0 of 6 trials failed\n"
    assert "No device profiles are stored; `autoprumux bench` makes one." in profiles.stdout


def test_failures_are_listed_with_cause_and_message_even_without_a_baseline(monkeypatch):
    def evaluate(self, candidate, seed, report):
        raise TrialError("The loss is\nnot a number.", cause="nan")

    monkeypatch.setattr(BuiltinEvaluator, "evaluate", evaluate)
    assert run(SEARCH).exit_code == 1

    text, as_json = run([*QUERY, "--failures"]), run([*QUERY, "--failures", "--json"])
    as_csv, asked = run([*QUERY, "--failures", "--csv"]), run(QUERY)

    assert "trial  0  N=1  s=0.00  nan\n          The loss is not a number.\n" in text.stdout
    first = json.loads(as_json.stdout)[0]
    assert (first["number"], first["cause"]) == (0, "nan")
    (row, *_) = csv.DictReader(as_csv.stdout.splitlines())
    assert (row["num_instances"], row["cause"]) == ("1", "nan")
    assert asked.exit_code == 1
    assert "has no measured dense baseline (N=1 s=0.00) yet" in asked.stderr
    assert "Run `autoprumux search --task qnli`" in asked.stderr


def test_a_database_without_studies_says_what_to_run(folder):
    open_database("sqlite:///study.db").close()

    for command in (QUERY, ["bench", "--storage", "sqlite:///study.db"]):
        result = run(command)
        assert_refused(
            result,
            "`study.db` holds no studies yet. Run `autoprumux search` first.",
            exit_code=1,
        )


@pytest.mark.usefixtures("finished")
def test_a_query_loads_no_library_that_makes_it_slow():
    slow = "{'sqlalchemy', 'scipy', 'sklearn', 'pandas', 'alembic', 'rich', 'torch', 'optuna'}"
    code = (
        "import sys\n"
        "from autoprumux.cli.main import app\n"
        f"app({[*QUERY, '--budget', '0:10:0.5']!r}, standalone_mode=False)\n"
        f"print({slow} & set(sys.modules))\n"
    )

    assert run_python(code).stdout.splitlines()[-1] == "set()"
