import csv
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, event
from typer.testing import CliRunner

import autoprumux
from autoprumux.cli.main import COMMANDS, app
from autoprumux.errors import InputError, TrialError
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.storage.database import open_database

SEARCH = ["search", "--storage", "sqlite:///study.db"]
QUERY = ["query", "--storage", "sqlite:///study.db"]
FINISHED = [*SEARCH, "--budget", "1,3", "--max-trials", "6"]


class BuiltinEvaluator(SyntheticEvaluator):
    """Claims built-in data, and never trains."""

    @property
    def data_fingerprint(self) -> str:
        return "builtin:qnli:0123"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, so that whatever is left behind is seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def evaluators(monkeypatch):
    """The evaluators that searches made; trainings are replaced by a closed form."""
    made: list[SyntheticEvaluator] = []

    def make(config, cache_dir, *_, **__):
        made.append(BuiltinEvaluator())
        return made[-1]

    monkeypatch.setitem(
        sys.modules, "autoprumux.evaluators.trained", SimpleNamespace(TrainedEvaluator=make)
    )
    return made


@pytest.fixture(scope="module")
def finished_database(tmp_path_factory) -> Path:
    """The database of a finished search of six trials for the budgets 1 and 3."""
    path = tmp_path_factory.mktemp("finished") / "study.db"
    with pytest.MonkeyPatch.context() as patch:
        fake = SimpleNamespace(TrainedEvaluator=lambda *_, **__: BuiltinEvaluator())
        patch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
        result = run([*FINISHED[:1], "--storage", f"sqlite:///{path}", *FINISHED[3:]])
    assert result.exit_code == 0, result.stderr
    return path


@pytest.fixture
def finished(folder, finished_database) -> Path:
    """A copy of it in the working directory."""
    return shutil.copy(finished_database, folder / "study.db")


@contextmanager
def full_disk() -> Iterator[None]:
    """No SQLite file grows while the block runs."""

    def on_connect(connection, _):
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size

    event.listen(Engine, "connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "connect", on_connect)


def run(arguments: list[str]):
    return CliRunner().invoke(app, arguments)


def run_python(code: str):
    """Run `code` in a fresh process that finds the package although the folder is another."""
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def assert_refused(result, message: str, exit_code: int) -> None:
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert re.fullmatch(f"error: {message}\n", result.stderr), result.stderr
    assert "Traceback" not in result.stderr


def test_checkpoints_are_found_from_any_folder(folder, monkeypatch):
    asked = []

    def make(config, cache_dir, *_, **__):
        asked.append(cache_dir)
        return BuiltinEvaluator()

    monkeypatch.setattr(sys.modules["autoprumux.evaluators.trained"], "TrainedEvaluator", make)

    run([*SEARCH, "--max-trials", "1", "--cache-dir", "cache"])

    assert asked == [folder / "cache"]


def test_the_command_line_loads_no_heavy_library():
    heavy = "{'torch', 'transformers', 'datasets', 'optuna', 'pandas', 'scipy', 'sqlalchemy'}"
    code = f"import sys, autoprumux.cli.main; print({heavy} & set(sys.modules))"

    found = run_python(code)

    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("command", [command.__name__ for command, _ in COMMANDS])
def test_every_help_ends_in_an_example(command):
    result = run([command, "--help"])

    assert result.exit_code == 0
    example = result.stdout.rstrip().splitlines()[-2:]
    assert example[0].strip() == "Example:"
    assert example[1].strip().startswith(f"autoprumux {command} ")


@pytest.mark.parametrize(
    ("argument", "begin"), [("--version", "autoprumux 0."), ("--help", "Usage: autoprumux ")]
)
def test_the_module_does_what_the_program_does(argument, begin):
    code = (
        f"import runpy, sys; sys.argv[1:] = [{argument!r}]; "
        "runpy.run_module('autoprumux', run_name='__main__')"
    )

    assert run_python(code).stdout.startswith(begin)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "-1"], r"`--budget` must be in \[0, 100\) points, got -1\."),
        (["--budget", "two"], "`--budget` must be points such as 2, .* got 'two'\\."),
        (["--widths", "0,1"], r"`--widths` must be at least 1, got 0\."),
        (["--widths", "2,5"], r"`--widths` must contain 1, the dense baseline's, got 2, 5\."),
        (["--widths", "1;2"], r"`--widths` must be a list of whole numbers, got '1;2'\."),
        (["--sparsities", "0,1.2"], r"`--sparsities` must be in \[0, 1\), got 1\.2\."),
        (["--max-trials", "0"], r"`--max-trials` must be at least 1, got 0\."),
        (["--device", "tpu"], r"`--device` must be one of auto, cpu, cuda, got 'tpu'\."),
        (["--sampler", "best"], "`--sampler` must be one of performance_model, .* got 'best'\\."),
        (["--seed", "-1"], r"`--seed` must be 0 or more, got -1\."),
        (["--preset", "nix"], "`--preset` 'nix' is unknown; there are .*"),
        (["--preset", "nix.toml"], "nix.toml cannot be read: No such file or directory\\."),
        (["--task", "nix.toml"], "nix.toml cannot be read: No such file or directory\\."),
        (["--set", "search.seeds=1"], "`search.seeds` is unknown; did you mean `search.seed`\\?"),
        (["--set", "seed"], "`--set` must look like KEY=VALUE, got 'seed'\\."),
    ],
)
def test_an_unusable_option_is_refused_before_anything_is_touched(
    folder, evaluators, arguments, message
):
    result = run([*SEARCH, *arguments])

    assert_refused(result, message, exit_code=2)
    assert list(folder.iterdir()) == []
    assert evaluators == []


@pytest.mark.parametrize(
    "arguments", [["--timeout", "-1"], ["--max-trials", "many"], ["--nix"], ["--seed", "x"]]
)
def test_an_option_of_the_wrong_kind_is_a_usage_error(folder, arguments):
    result = run([*SEARCH, *arguments])

    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert list(folder.iterdir()) == []


def test_all_mistakes_of_the_options_are_told_together():
    result = run([*SEARCH, "--widths", "0,1", "--budget", "x", "--set", "trainer.device=tpu"])

    assert result.exit_code == 2
    assert all(name in result.stderr for name in ("`--widths`", "`--budget`", "`trainer.device`"))


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://host/name", "sqlite://", "sqlite:///no/such/folder/study.db"]
)
@pytest.mark.parametrize("command", ["search", "query"])
def test_a_wrong_storage_url_is_refused(folder, command, url):
    result = run([command, "--storage", url])

    assert result.exit_code == 1
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr)
    assert list(folder.iterdir()) == []


def test_a_password_in_the_storage_url_is_never_printed():
    result = run(["query", "--storage", "mysql://me:hunter2@host/name", "--verbose"])

    assert result.exit_code == 1
    assert "hunter2" not in result.output


def test_faulty_input_leaves_no_database(folder, monkeypatch):
    def check(self):
        raise InputError("Task 'nix' is unknown; there are mnli, qnli, qqp, sst2.", cause="task")

    monkeypatch.setattr(BuiltinEvaluator, "check", check)

    result = run([*SEARCH, "--task", "nix"])

    assert_refused(result, "Task 'nix' is unknown; there are mnli, qnli, qqp, sst2.", exit_code=1)
    assert list(folder.iterdir()) == []


def test_verbose_adds_the_traceback(monkeypatch):
    def check(self):
        raise InputError("No data.", cause="data")

    monkeypatch.setattr(BuiltinEvaluator, "check", check)

    result = run([*SEARCH, "--verbose"])

    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: No data.\n")


def test_ctrl_c_ends_with_how_to_go_on(monkeypatch):
    def evaluate(self, candidate, seed, report):
        raise KeyboardInterrupt

    monkeypatch.setattr(BuiltinEvaluator, "evaluate", evaluate)

    result = run(SEARCH)

    assert result.exit_code == 130
    assert "the same command takes the search up again" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_search_leaves_its_answer_on_stdout_and_its_trials_on_stderr():
    result = run([*SEARCH, "--budget", "3", "--max-trials", "6"])

    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("  accuracy ") == 6
    assert "trial  0  N=1  s=0.00  accuracy 90.0" in result.stderr
    assert "verified" in result.stdout
    assert "trial  0" not in result.stdout
    assert "built-in data: made-up examples, not GLUE" in result.stdout
    assert "built-in data: made-up examples, not GLUE" in result.stderr
    assert "autoprumux query --storage sqlite:///study.db --study qnli-embedded" in result.stdout


@pytest.mark.usefixtures("finished")
def test_the_answer_of_a_search_is_the_one_that_a_query_gives():
    searched = run([*FINISHED, "--json"])
    queried = run([*QUERY, "--task", "qnli", "--json"])

    assert searched.exit_code == queried.exit_code == 0
    outcome, answers = json.loads(searched.stdout), json.loads(queried.stdout)
    assert outcome["answers"] == answers
    assert outcome["num_trials"] == 6
    assert outcome["is_builtin_data"] is True
    assert [answer["budget"] for answer in answers] == [0.01, 0.03]


@pytest.mark.usefixtures("finished")
def test_the_same_command_again_trains_nothing_more(monkeypatch):
    monkeypatch.setattr(BuiltinEvaluator, "evaluate", None)

    again = run(FINISHED)

    assert again.exit_code == 0
    assert "  accuracy " not in again.stderr
    assert "6 of 36 candidates tried" in again.stdout


@pytest.mark.usefixtures("finished")
def test_a_changed_recipe_is_refused_and_the_change_named():
    result = run([*FINISHED, "--set", "trainer.finetune.num_updates=300"])

    assert result.exit_code == 1
    assert "`trainer.finetune.num_updates`: stored 600, now 300" in result.stderr


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


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("arguments", [["--task", "sst2"], ["--study", "nix"]])
def test_an_unknown_study_is_refused_with_those_that_there_are(arguments):
    result = run([*QUERY, *arguments])

    assert result.exit_code == 1
    assert "qnli-embedded" in result.stderr


@pytest.mark.usefixtures("finished")
def test_a_full_disk_ends_the_search_with_a_sentence_and_the_next_one_goes_on():
    command = [*SEARCH, "--budget", "1,3", "--max-trials", "36", "--set", "search.stop_gain=0"]

    with full_disk():
        stopped = run(command)
        queried = run(QUERY)

    assert stopped.exit_code == 1
    assert "Traceback" not in stopped.stderr
    assert "error: There is no space left to write `study.db`" in stopped.stderr
    assert queried.exit_code == 0
    num_before = 6 + stopped.stderr.count("  accuracy ")
    resumed = run([*command, "--max-trials", str(num_before + 1)])
    assert resumed.exit_code == 0
    assert f"{num_before + 1} of 36 candidates tried" in resumed.stdout


def test_a_query_without_a_database_makes_none(folder):
    result = run(QUERY)

    assert result.exit_code == 1
    assert re.match(r"error: There is no database at `study\.db`\.", result.stderr)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", [SEARCH, QUERY])
def test_a_database_of_a_newer_version_is_refused_and_left_alone(finished, command):
    with sqlite3.connect(finished) as connection:
        connection.execute("UPDATE prumux_schema_version SET version = version + 1")
    connection.close()

    result = run(command)

    assert result.exit_code == 1
    assert "newer" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [SEARCH, QUERY])
def test_a_file_that_is_no_database_is_refused_and_left_alone(folder, command):
    (folder / "study.db").write_text("no database " * 100)

    result = run(command)

    assert result.exit_code == 1
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr)
    assert (folder / "study.db").read_text() == "no database " * 100


@pytest.mark.usefixtures("finished")
def test_a_stored_study_is_recorded_as_text(folder):
    command = ["record", "--storage", "sqlite:///study.db", "--study", "qnli-embedded"]

    result = run([*command, "--out", "recordings"])

    assert result.exit_code == 0, result.stderr
    rows = (folder / "recordings" / "qnli-builtin-builtin.csv").read_text().splitlines()
    assert len(rows) == 1 + 6
    header = json.loads((folder / "recordings" / "qnli-builtin-builtin.json").read_text())
    assert header["data_fingerprint"] == "builtin:qnli:0123"


@pytest.fixture(scope="module")
def grid_folder(tmp_path_factory) -> Path:
    """A database with a whole, small grid, and its recording."""
    folder = tmp_path_factory.mktemp("grid")
    storage = ["--storage", f"sqlite:///{folder}/grid.db"]
    options = ["--widths", "1,2,5", "--sparsities", "0,0.6,0.65,0.7,0.8"]  # each trial costs time
    options += ["--max-trials", "15", "--set", "search.stop_chance=0"]
    with pytest.MonkeyPatch.context() as patch:
        fake = SimpleNamespace(TrainedEvaluator=lambda *_, **__: BuiltinEvaluator())
        patch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
        searched = run(["search", *storage, "--sampler", "grid", *options])
    recorded = run(["record", *storage, "--study", "qnli-embedded", "--out", str(folder)])
    assert searched.exit_code == recorded.exit_code == 0
    return folder


@pytest.fixture
def recorded_grid(grid_folder) -> Path:
    """The recording of a whole, small grid."""
    return grid_folder / "qnli-builtin-builtin.csv"


def test_a_recording_and_its_study_are_validated_alike(grid_folder, recorded_grid):
    stored = run(["validate", "--storage", f"sqlite:///{grid_folder}/grid.db", "--json"])
    recorded = run(["validate", "--recorded", str(recorded_grid), "--json"])

    assert stored.exit_code == recorded.exit_code == 0, stored.stderr + recorded.stderr
    (of_study,), (of_recording,) = json.loads(stored.stdout), json.loads(recorded.stdout)
    assert of_study["study"] == "qnli-embedded"
    assert of_recording["study"] == "qnli-builtin-builtin seed 0"
    assert of_study["num_fitted"] == 12
    for key in ("errors", "hits", "num_fitted", "task"):
        assert of_study[key] == of_recording[key]


def test_a_validation_prints_both_tables_with_counts(recorded_grid):
    result = run(["validate", "--recorded", str(recorded_grid)])

    assert result.exit_code == 0
    assert "surrogates fitted on 12 trials, 0 failed" in result.stdout
    assert re.search(r"accuracy  bilinear along s +left out +\d of 6 +\d of 2", result.stdout)
    assert re.search(r"performance model +unseen +\d+ of 21 ", result.stdout)


@pytest.mark.usefixtures("finished")
def test_a_study_of_a_few_trials_is_not_validated():
    result = run(["validate", "--storage", "sqlite:///study.db"])

    assert_refused(
        result, "Study `qnli-embedded` is too small to validate: one width .*", exit_code=1
    )


@pytest.mark.usefixtures("finished")
def test_a_study_that_is_not_there_is_not_validated():
    result = run(["validate", "--storage", "sqlite:///study.db", "--task", "sst2"])

    assert_refused(
        result,
        r"There is no such study to validate; there are `qnli-embedded` \(task `qnli`\)\.",
        exit_code=1,
    )


def test_a_validation_needs_neither_torch_nor_optuna(recorded_grid):
    code = (
        "import sys\n"
        "from autoprumux.cli.main import app\n"
        f"app(['validate', '--recorded', {str(recorded_grid)!r}], standalone_mode=False)\n"
        "print({'torch', 'transformers', 'datasets', 'optuna'} & set(sys.modules))\n"
    )

    found = run_python(code)

    assert found.stdout.splitlines()[-1] == "set()"


def test_a_replay_compares_samplers_without_training(recorded_grid, monkeypatch):
    monkeypatch.setattr(BuiltinEvaluator, "evaluate", None)
    command = ["replay", "--recorded", str(recorded_grid), "--seeds", "2"]

    text = run([*command, "--sampler", "performance_model,random"])
    as_json = run([*command, "--sampler", "performance_model", "--budget", "1,3", "--json"])

    assert text.exit_code == as_json.exit_code == 0, text.stderr + as_json.stderr
    assert re.search(r"^performance_model +\d", text.stdout, re.MULTILINE)
    assert re.search(r"^random +\d", text.stdout, re.MULTILINE)
    assert "trial  0  N=1  s=0.00  accuracy 90.0    1.00x" in text.stdout
    (summary,) = json.loads(as_json.stdout)
    assert summary["num_searches"] == 2
    assert [answer["budget"] for answer in summary["searches"][0]["answers"]] == [0.01, 0.03]
    assert summary["searches"][0]["answers"][1]["speedup"] == pytest.approx(
        summary["searches"][0]["answers"][1]["best_speedup"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "best"], "`--sampler` must be of performance_model, .* got 'best'\\."),
        (["--seeds", "0"], r"`--seeds` must be at least 1, got 0\."),
        (["--budget", "-1"], r"`--budget` must be in \[0, 100\) points, got -1\."),
        (["--max-trials", "0"], r"`search.max_trials` must be at least 1, got 0\."),
        (["--recorded", "nix"], "`--recorded` 'nix' is unknown; .*"),
    ],
)
def test_an_unusable_option_of_a_replay_is_refused(recorded_grid, arguments, message):
    result = run(["replay", "--recorded", str(recorded_grid), *arguments])

    assert_refused(result, message, exit_code=2)


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
