"""`autoprumux dashboard`, but for the serving itself."""

import re
import sqlite3
from wsgiref.simple_server import WSGIServer

import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

import autoprumux.api.dashboard as api
from autoprumux.api.dashboard import open_dashboard
from autoprumux.cli.main import app
from autoprumux.dashboard.writer import StudyWriter
from autoprumux.errors import UnknownStudyError
from autoprumux.storage.database import open_database

COMMAND = ["dashboard", "--no-open", "--port", "0"]


@pytest.fixture(autouse=True)
def _stopped(monkeypatch):
    def interrupt(self, poll_interval=0.5):
        raise KeyboardInterrupt

    monkeypatch.setattr(WSGIServer, "serve_forever", interrupt)


def run(*arguments):
    return CliRunner().invoke(app, [*COMMAND, *arguments])


def test_it_prints_the_address_of_the_chosen_study_and_ends_with_ctrl_c(made):
    result = run("--storage", made.url, "--study", "qnli-embedded")

    assert result.exit_code == 0, result.stderr
    line = (
        r"http://localhost:\d+/dashboard/studies/1 shows sqlite:///\S+study\.db; Ctrl-C stops it"
    )
    assert re.match(line, result.stdout)
    assert result.stderr == "\nStopped.\n"


def test_without_a_choice_the_address_is_that_of_all_studies(made):
    result = run("--storage", made.url)

    assert re.match(r"http://localhost:\d+/dashboard shows ", result.stdout), result.stderr


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_database_without_studies_is_refused(tmp_path, is_empty):
    url = f"sqlite:///{tmp_path}/study.db"
    if is_empty:
        open_database(url).close()
    before = sorted(tmp_path.iterdir())

    result = run("--storage", url)

    assert result.exit_code == 1
    assert re.fullmatch(r"error: [^\n]+ Run `autoprumux search` first[^\n]*\n", result.stderr)
    assert sorted(tmp_path.iterdir()) == before


def test_an_unknown_study_is_refused_with_those_that_there_are(made):
    result = run("--storage", made.url, "--study", "nix")

    assert result.exit_code == 1
    assert "qnli-embedded" in result.stderr


@pytest.mark.parametrize("missing", ["optuna_dashboard", "matplotlib"])
def test_without_the_extra_one_sentence_says_what_to_install(made, monkeypatch, missing):
    monkeypatch.setattr(api, "find_spec", lambda name: None if name == missing else object())

    result = run("--storage", made.url)

    assert result.exit_code == 2
    command = re.escape('pip install "autoprumux[dashboard]"')
    assert re.fullmatch(rf"error: [^\n]*{missing}[^\n]*run `{command}`\.\n", result.stderr)


def test_a_password_is_never_printed():
    result = run("--storage", "postgresql://me:hunter2@127.0.0.1:1/name", "--verbose")

    assert result.exit_code == 1
    assert "hunter2" not in result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_what_cannot_be_brought_up_to_date_is_shown_as_it_is(made, monkeypatch):
    monkeypatch.setattr(StudyWriter, "write_notes", _refuse_writing)

    result = run("--storage", made.url, "--study", "qnli-embedded")

    assert result.exit_code == 0
    told = "note: notes, plots and files of study qnli-embedded may be old: `"
    assert result.stderr.startswith(told)
    assert "read-only" in result.stderr
    assert "/dashboard/studies/1 shows" in result.stdout


def _refuse_writing(*_, **__):
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorname = "SQLITE_READONLY"
    raise OperationalError("INSERT", {}, error)


def test_a_study_that_optuna_no_longer_has_is_told(made):
    storage = made.storage
    storage.delete_study(1)
    told = []

    with open_dashboard(
        study="qnli-embedded", storage=made.url, address=("localhost", 0), tell=told.append
    ) as opened:
        assert opened.address.endswith("/dashboard")

    assert told == ["study qnli-embedded is not shown: it was deleted from Optuna's tables"]


def test_an_unknown_task_is_refused(made):
    with (
        pytest.raises(UnknownStudyError, match="task `sst2`"),
        open_dashboard("sst2", storage=made.url),
    ):
        pass
