import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import autoprumux
from autoprumux.cli.main import app
from autoprumux.study_files import load_study

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(marker: str) -> str:
    found = re.search(rf"<!-- run: {marker} -->\n```sh\n(.*?)```\n", README, re.DOTALL)
    assert found, f"README has no {marker} block"
    return found[1]


@pytest.mark.parametrize("marker", ["main", "test"])
def test_a_runnable_block_is_one_command_in_a_fresh_environment(marker):
    lines = block_after(marker).splitlines()

    assert len(lines) == 1
    assert lines[0].startswith("python3 -m venv .venv")


def test_the_test_block_runs_the_script_with_all_checks():
    assert block_after("test").rstrip().endswith(".ci/check")
    checks = (ROOT / ".ci" / "check").read_text(encoding="utf-8")
    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest"):
        assert re.search(rf"^{tool}", checks, re.MULTILINE)


def shown_commands() -> list[list[str]]:
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [part.strip() for line in lines for part in line.split("&&")]
    words = [shlex.split(command) for command in commands if "autoprumux " in command]
    return [command[1:] for command in words if command[0].endswith("autoprumux")]


@pytest.mark.parametrize("command", shown_commands(), ids=" ".join)
def test_the_options_of_every_shown_command_exist(command):
    help_text = CliRunner().invoke(app, [command[0], "--help"]).stdout

    options = [word for word in command if word.startswith("--")]
    assert options
    assert all(f"{option} " in help_text for option in options)


def test_the_shown_study_files_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    task, study = (re.sub(r"^  ", "", block, flags=re.MULTILINE) for block in blocks)
    Path("study.toml").write_text(f"{study}\n[task]\n{task}", encoding="utf-8")

    config = load_study("study.toml")

    assert config.trainer.task_name == tomllib.loads(task)["name"]
    assert config.search.budgets == (0.01, 0.03)


def test_the_shown_functions_exist():
    imported = re.search(r"from autoprumux import (.*)\n", README)

    assert imported
    for name in imported[1].split(", "):
        assert callable(getattr(autoprumux, name))


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_links_between_the_pages_lead_somewhere(page):
    path = ROOT / page

    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    assert links
    assert all((path.parent / link).exists() for link in links)
