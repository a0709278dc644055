"""Every oracle names tests that exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "oracles.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| (O\d+)? ", line)]


def named_tests(row: str) -> list[tuple[str, str]]:
    """Yield file and name of the tests of a row; `…` stands for the file, or part of the name."""
    file, found = "", []
    for word in re.findall(r"`([^`]+)`", row.split("|")[3]):
        before, _, name = word.rpartition("::") if "::" in word else (word, "", "")
        if word.startswith("…"):
            before, name = "", word.removeprefix("…")
        file = before or file
        found.append((file, name))
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip() or row[5:40])
def test_the_tests_of_every_oracle_exist(row):
    found = named_tests(row)

    assert found
    assert all(name for _, name in found), "a file alone says nothing of what is tested"
    for file, name in found:
        text = (TESTS / "trainers" / file).read_text(encoding="utf-8")
        whole = name if name.startswith("test_") else rf"test_\w*{name}\w*"
        assert re.search(rf"^def {whole}\(", text, re.MULTILINE), f"{name} is not in {file}"


def test_no_oracle_is_without_a_test():
    ids = {int(number) for row in ROWS for number in re.findall(r"^\| O(\d+)", row)}

    assert ids == set(range(1, 31))
