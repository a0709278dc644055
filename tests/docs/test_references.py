"""The pages that are made from the code are those that the code makes."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from autoprumux.cli.main import COMMANDS, app

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def references():
    spec = importlib.util.spec_from_file_location("references", DOCS / "make_references.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_study_files_is_what_the_code_makes(references):
    written = (DOCS / "study-files.md").read_text(encoding="utf-8")

    assert written == references.study_files_page(), "run `python docs/make_references.py`"


def spelt(words: list[str]) -> list[str]:
    """Yield the spellings of an option, without what it takes; or the name of an argument."""
    return [word for word in words if word.startswith("-")] or words[:1]


def section_of(command: str) -> str:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    pattern = rf"^## `autoprumux {command}`\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, page, re.DOTALL | re.MULTILINE)
    assert found, f"docs/cli.md has no `{command}`: run `python docs/make_references.py`"
    return found[1]


# Typer words usage lines and defaults anew from release to release, so the page is not compared
# letter by letter.
@pytest.mark.parametrize("name", [function.__name__ for function, _ in COMMANDS])
def test_the_page_of_commands_has_every_option_with_its_help(name):
    command = typer.main.get_command(app).commands[name]

    section = section_of(name)

    assert command.params
    listed = re.findall(r"^\* `([^`]+)`: (.*)$", section, re.MULTILINE)
    names = [spelt(name.replace(",", "").split()) for name, _ in listed]
    for option in command.params:
        is_argument = option.opts[0][0] != "-"
        name = option.metavar if is_argument else max(option.opts, key=len)
        texts = [
            text for words, (_, text) in zip(names, listed, strict=True) if name in spelt(words)
        ]
        assert len(texts) == 1, name
        assert option.help.replace("<", "&lt;") in texts[0]
    assert len(listed) == len(command.params) + 1  # and --help


@pytest.mark.parametrize(
    ("name", "epilog"), [(function.__name__, epilog) for function, epilog in COMMANDS]
)
def test_every_command_ends_its_help_in_an_example_of_itself(name, epilog):
    example = epilog.strip().splitlines()[-1].split()

    assert example[:2] == ["autoprumux", name]
    assert "Example:" in section_of(name)
