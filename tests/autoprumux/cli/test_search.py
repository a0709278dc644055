import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_line import FINISHED, QUERY, SEARCH, BuiltinEvaluator, assert_refused, run, run_python
from sqlalchemy import Engine, event

from autoprumux.cli.main import COMMANDS
from autoprumux.errors import InputError


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
