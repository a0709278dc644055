import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprumux.errors import UsageError
from autoprumux.exporting.directory import MARK, remove_leftovers, require_place, whole_directory

ROOT = str(Path(__file__).parents[3])
FILL = """
import sys, time
from pathlib import Path
from autoprumux.exporting.directory import whole_directory
with whole_directory(Path("model")) as directory:
    (directory / "weights").write_text("half")
    print(directory, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def filling(folder) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that is in the middle of an export, and the folder that it fills."""
    command = [sys.executable, "-c", FILL]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_directory_is_there_when_the_block_ends_and_not_before(folder):
    out = folder / "model"

    with whole_directory(out) as directory:
        (directory / "weights").write_text("all")
        assert not out.exists()
        assert directory.parent == folder

    assert (out / "weights").read_text() == "all"
    assert names(folder) == ["model"]


def test_files_may_be_read_by_those_who_may_read_the_folder(folder):
    with whole_directory(folder / "model") as directory:
        (directory / "weights").touch(mode=0o600)

    allowed = (folder / "model").stat().st_mode & 0o666
    assert (folder / "model" / "weights").stat().st_mode & 0o777 == allowed


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_nothing(folder, error):
    def fill():
        with whole_directory(folder / "model") as directory:
            (directory / "weights").write_text("half")
            raise error

    with pytest.raises(error):
        fill()

    assert names(folder) == []


def test_a_killed_process_leaves_what_the_next_export_removes(folder, filling):
    process, filled = filling
    assert MARK in filled.name

    process.send_signal(signal.SIGKILL)
    process.wait()

    assert names(folder) == [filled.name]
    with whole_directory(folder / "other") as directory:
        assert names(folder) == [directory.name]
    assert names(folder) == ["other"]


def test_what_another_process_is_filling_stays(folder, filling):
    process, filled = filling
    assert remove_leftovers(folder) == []
    assert (filled / "weights").is_file()

    process.kill()
    process.wait()

    assert remove_leftovers(folder) == [filled]


def test_other_hidden_folders_stay(folder):
    (folder / ".git").mkdir()
    (folder / f".{MARK}").mkdir()

    assert remove_leftovers(folder) == []


@pytest.mark.parametrize("kind", ["folder", "empty", "file", "broken link"])
def test_what_is_there_is_never_replaced(folder, kind):
    out = folder / "model"
    if kind == "file":
        out.write_text("mine")
    elif kind == "broken link":
        out.symlink_to(folder / "nowhere")
    else:
        out.mkdir()
        if kind == "folder":
            (out / "mine").touch()

    with pytest.raises(UsageError, match="model exists already, and an export replaces nothing"):
        require_place(out)


def test_what_appears_meanwhile_is_not_replaced_either(folder):
    with (
        pytest.raises(UsageError, match="exists already"),
        whole_directory(folder / "model"),
    ):
        (folder / "model").mkdir()

    assert names(folder) == ["model"]
    assert names(folder / "model") == []


def test_a_place_without_a_folder_is_refused(folder):
    with pytest.raises(UsageError, match=f"there is no folder {folder}/a"):
        require_place(Path("a/b"))


def test_a_place_that_cannot_be_written_is_a_sentence(monkeypatch):
    def refuse(*_, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)

    with (
        pytest.raises(UsageError, match=r"`--out` model cannot be written: Permission denied\."),
        whole_directory(Path("model")),
    ):
        pytest.fail("nothing to fill")
