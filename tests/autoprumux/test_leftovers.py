import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autoprumux.leftovers import scratch_folder, try_lock, whole_file

KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from autoprumux.leftovers import scratch_folder, whole_file

tempfile.tempdir = sys.argv[1]
with scratch_folder() as folder, whole_file(Path(sys.argv[1]) / sys.argv[2]) as new:
    (folder / "log.txt").write_text("half")
    new.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_scratch_folder_is_gone_when_its_block_ends(folder: Path) -> None:
    with scratch_folder() as scratch:
        (scratch / "log.txt").write_text("text")
        assert try_lock(scratch) is None

    assert list(folder.iterdir()) == []


def test_file_takes_its_place_whole(folder: Path) -> None:
    target = folder / "page.html"
    target.write_text("old")

    with whole_file(target) as new:
        new.write_text("new")
        assert target.read_text() == "old"

    assert target.read_text() == "new"
    assert list(folder.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_file_that_fails_leaves_the_old_one(folder: Path, error: type[BaseException]) -> None:
    target = folder / "page.html"
    target.write_text("old")

    def fill() -> None:
        with whole_file(target) as new:
            new.write_text("half")
            raise error

    with pytest.raises(error):
        fill()

    assert target.read_text() == "old"
    assert list(folder.iterdir()) == [target]


@pytest.mark.parametrize("name", ["page.html", "page[1].html"])
def test_what_a_killed_process_left_is_removed_and_what_another_fills_stays(
    name: str, folder: Path
) -> None:
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", KILLED, str(folder), name]
    done = subprocess.run(command, env={"PYTHONPATH": root})
    assert done.returncode == -9
    assert len(list(folder.iterdir())) == 2

    with scratch_folder() as mine, scratch_folder() as other, whole_file(folder / name):
        assert mine.is_dir()
        assert other.is_dir()

    assert [path.name for path in folder.iterdir()] == [name]
