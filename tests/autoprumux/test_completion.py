"""What shells are told, through the protocol that they use."""

import pytest
from typer.testing import CliRunner

from autoprumux.cli.completion import TASKS
from autoprumux.cli.main import app
from autoprumux.config import SearchConfig, StudyConfig, config_hash, study_to_dict
from autoprumux.records import StudyRecord
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository
from trainers.config import TrainerConfig
from trainers.data import tasks


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a task's file, a folder and something else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("", encoding="utf-8")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.toml").write_text("", encoding="utf-8")
    (tmp_path / "more.txt").write_text("", encoding="utf-8")
    return tmp_path


def complete(line: str) -> list[str]:
    """Yield what bash offers at the end of a line."""
    words = ["autoprumux", *line.split(" ")]
    environment = {
        "_AUTOPRUMUX_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(app, [], prog_name="autoprumux", env=environment)
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout.split()


def store(name: str, task: str) -> None:
    config = StudyConfig(name=name, search=SearchConfig(), trainer=TrainerConfig(task=task))
    database = open_database("sqlite:///my.db")
    Repository(database).save_study(
        StudyRecord(
            name=name,
            task=task,
            config=study_to_dict(config),
            config_hash=config_hash(config),
            data_fingerprint="files:0",
            seed=0,
            budgets=(0.02,),
        )
    )
    database.close()


def test_the_named_tasks_are_those_of_the_trainers():
    assert tuple(tasks.TASKS) == TASKS


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("search --task q", ["qnli", "qqp"]),
        ("search --task ", ["mnli", "qnli", "qqp", "sst2"]),
        ("search --task m", ["mnli", "mine.toml", "more/"]),
        ("search --task more/", ["more/other.toml"]),
        ("search --task nowhere/x", []),
        ("search --preset ", ["bert-base", "embedded", "minilm", "paper-grid"]),
        ("search --preset mi", ["minilm", "mine.toml"]),
        ("rep", ["report", "replay"]),
        ("dashboard --no", ["--no-open"]),
    ],
)
def test_values_are_offered(line, offered):
    assert complete(line) == offered


@pytest.mark.parametrize("command", ["query", "report", "dashboard"])
def test_what_the_database_holds_is_offered(command):
    store("qnli-embedded", "qnli")
    store("sst2-minilm", "sst2")

    assert complete(f"{command} --storage sqlite:///my.db --study s") == ["sst2-minilm"]
    assert complete(f"{command} --storage sqlite:///my.db --task ") == ["sst2", "qnli"]


@pytest.mark.parametrize("url", ["sqlite:///no.db", "sqlite:///more.txt", "mysql://a:b@c/d"])
def test_a_database_that_cannot_be_read_offers_nothing_and_is_not_made(folder, url):
    before = sorted(path.name for path in folder.iterdir())

    assert complete(f"query --storage {url} --study ") == []

    assert sorted(path.name for path in folder.iterdir()) == before
