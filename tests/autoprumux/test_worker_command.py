"""`autoprumux worker`, and signals to it and to `search`; trainings are a closed form."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import optuna_dashboard
import pytest
from typer.testing import CliRunner

from autoprumux.cli.main import app
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

STORAGE = ["--storage", "sqlite:///study.db"]
SEARCH = ["search", *STORAGE, "--budget", "1,3", "--set", "search.stop_chance=0.0"]

SLOW_COMMAND = """
import sys, time, types
from autoprumux.evaluators.synthetic import SyntheticEvaluator

class ReportingEvaluator(SyntheticEvaluator):
    def evaluate(self, candidate, seed, report):
        print("training", flush=True)
        for step in range(6000):
            time.sleep(0.05)
            report("finetune/step", step, step)

class DeafEvaluator(SyntheticEvaluator):
    def evaluate(self, candidate, seed, report):
        print("training", flush=True)
        time.sleep(600)

class ConvertingEvaluator(DeafEvaluator):
    def evaluate(self, *arguments):
        try:
            super().evaluate(*arguments)
        except BaseException:
            raise RuntimeError("release unlocked lock") from None

kinds = {"reports": ReportingEvaluator, "deaf": DeafEvaluator, "converts": ConvertingEvaluator}
kind = kinds[sys.argv.pop()]
fake = types.SimpleNamespace(TrainedEvaluator=lambda *_, **__: kind())
sys.modules["autoprumux.evaluators.trained"] = fake
from autoprumux.cli.main import main
main()
"""
"""The command in a process of its own, with trials that take minutes; the last argument tells
whether they report, and what they make of an interruption."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Recipes of the evaluators that commands made."""
    recipes: list[Any] = []

    def make(config: Any, *_: object, **__: object) -> SyntheticEvaluator:
        recipes.append(config)
        return SyntheticEvaluator()

    fake = SimpleNamespace(TrainedEvaluator=make)
    monkeypatch.setitem(sys.modules, "autoprumux.evaluators.trained", fake)
    return recipes


def run(arguments: list[str]) -> Any:
    return CliRunner().invoke(app, arguments)


def states() -> list[str]:
    database = open_database("sqlite:///study.db")
    trials = Repository(database).load_study().trials
    database.close()
    return [trial.state for trial in trials]


def tries() -> list[tuple[int, str]]:
    database = open_database("sqlite:///study.db")
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT number, outcome FROM prumux_tries")
        found = [(row.number, row.outcome) for row in rows]
    database.close()
    return found


def raise_cap(cap: int = 1) -> None:
    """Let the stored study have five trials, as if another machine had asked for more."""
    database = open_database("sqlite:///study.db")
    with database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE prumux_studies SET config_json ="
            f" replace(config_json, '\"max_trials\": {cap}', '\"max_trials\": 5')"
        )
    database.close()


def test_worker_goes_on_with_the_stored_study(made: list[Any]) -> None:
    settings = ["--set", "trainer.finetune.num_updates=77", "--widths", "1,2"]
    assert run([*SEARCH, *settings, "--max-trials", "3"]).exit_code == 0
    raise_cap(3)

    result = run(["worker", *STORAGE, "--study", "qnli-embedded"])

    assert result.exit_code == 0, result.stderr
    assert "joining study qnli-embedded: task qnli" in result.stderr
    assert (
        "The search of qnli-embedded is over: the cap of 5 trained trials is reached."
        in result.stdout
    )
    assert made[-1].finetune.num_updates == 77
    assert states() == ["complete"] * 5


@pytest.mark.parametrize(
    ("options", "place"), [([], "study.db-artifacts"), (["--artifacts", "files"], "files")]
)
def test_worker_writes_the_notes_and_files_that_a_search_writes(
    folder: Path, options: list[str], place: str
) -> None:
    assert run([*SEARCH, "--max-trials", "1"]).exit_code == 0
    raise_cap()
    database = open_database("sqlite:///study.db")
    before = len(list((folder / "study.db-artifacts").iterdir()))

    assert run(["worker", *STORAGE, *options]).exit_code == 0

    study = optuna.load_study(study_name="qnli-embedded", storage=database.optuna_storage())
    notes = [
        optuna_dashboard.get_note(optuna.Trial(study, trial._trial_id)) for trial in study.trials
    ]
    database.close()
    assert len(notes) == 5
    assert all("accuracy" in note for note in notes)
    assert len(list((folder / place).iterdir())) == 2 * 4 + (0 if options else before)


def test_unknown_study_is_refused_with_those_that_are_there() -> None:
    assert run([*SEARCH, "--max-trials", "1"]).exit_code == 0

    result = run(["worker", *STORAGE, "--study", "other"])

    assert result.exit_code == 1
    assert "holds no study `other`; it holds `qnli-embedded`" in result.stderr


def test_missing_database_is_refused_and_not_made(folder: Path) -> None:
    result = run(["worker", *STORAGE])

    assert result.exit_code == 1
    assert "There is no database at `study.db`" in result.stderr
    assert list(folder.iterdir()) == []


def test_other_data_on_this_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run([*SEARCH, "--max-trials", "1"]).exit_code == 0
    monkeypatch.setattr(SyntheticEvaluator, "data_fingerprint", "glue:qnli:4567")

    result = run(["worker", *STORAGE])

    assert result.exit_code == 1
    assert "was made with other examples (synthetic:plain:" in result.stderr
    assert "now glue:qnli:4567" in result.stderr
    assert states() == ["complete"]


def start(command: list[str], kind: str) -> subprocess.Popen[str]:
    """Start a command and wait until it trains."""
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_COMMAND, *command, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    return process


def interrupt_twice(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal, again once it was noticed, and yield what was told."""
    assert process.stderr is not None
    process.send_signal(number)
    told = ""
    while "once more" not in told:
        assert process.poll() is None
        told += process.stderr.readline()
    process.send_signal(number)
    return told + process.communicate(timeout=300)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_gives_the_trial_back(number: signal.Signals) -> None:
    assert run([*SEARCH, "--max-trials", "1"]).exit_code == 0
    raise_cap()
    process = start(["worker", *STORAGE], "reports")

    process.send_signal(number)
    printed, errors = process.communicate(timeout=300)

    assert process.returncode == 0, errors
    assert printed == "Left the study; what was begun is given back.\n"
    assert "Leaving at the next checkpoint; once more to leave at once." in errors
    assert tries()[-1] == (1, "given_back")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_ends_a_search_at_the_next_checkpoint(number: signal.Signals) -> None:
    process = start(SEARCH, "reports")

    process.send_signal(number)
    printed, errors = process.communicate(timeout=300)

    assert process.returncode == 130, errors
    assert printed == ""
    assert "Leaving at the next checkpoint; once more to leave at once." in errors
    assert errors.endswith(
        "\nStopped. Finished trials are stored; the same command takes the search up again.\n"
    )
    assert tries() == [(0, "given_back")]
    assert states() == ["running"]


@pytest.mark.parametrize("kind", ["deaf", "converts"])
def test_second_signal_leaves_at_once(kind: str) -> None:
    assert run([*SEARCH, "--max-trials", "1"]).exit_code == 0
    raise_cap()
    process = start(["worker", *STORAGE], kind)

    told = interrupt_twice(process, signal.SIGTERM)

    assert process.returncode == 130, told
    assert told.endswith("\nStopped. What was begun is given back.\n")
    assert tries()[-1] == (1, "given_back")


@pytest.mark.parametrize("kind", ["deaf", "converts"])
def test_second_signal_ends_a_search_at_once_and_fails_no_trial(kind: str) -> None:
    process = start(SEARCH, kind)

    told = interrupt_twice(process, signal.SIGINT)

    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert tries() == [(0, "given_back")]
    assert states() == ["running"]
    assert run([*SEARCH, "--max-trials", "3"]).exit_code == 0
    assert states() == ["complete"] * 3
