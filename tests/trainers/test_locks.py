import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainers.locks import file_lock

HOLD = """
import sys, time
from pathlib import Path
from trainers.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until it is killed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_free_lock_is_had_at_once_and_again(tmp_path):
    for _ in range(2):
        with file_lock(tmp_path / "lock", timeout_s=0) as is_held:
            assert is_held


@pytest.mark.usefixtures("holder")
def test_lock_of_another_process_is_not_had_in_time(tmp_path):
    started = time.monotonic()

    with file_lock(tmp_path / "lock", timeout_s=0.5) as is_held:
        waited_s = time.monotonic() - started

    assert not is_held
    assert waited_s >= 0.5


def test_lock_of_a_killed_process_is_free(tmp_path, holder):
    waits = []

    def kill():
        waits.append(1)
        holder.kill()

    with file_lock(tmp_path / "lock", on_wait=kill) as is_held:
        assert is_held

    assert waits


@pytest.mark.usefixtures("holder")
def test_waiting_can_be_given_up(tmp_path):
    def give_up():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), file_lock(tmp_path / "lock", on_wait=give_up):
        pytest.fail("the lock is another's")


def test_lock_may_be_a_file_that_can_only_be_read(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    lock.touch()
    real, modes = __import__("os").open, []

    def refuse_writing(path: Path, options: int, *mode: int) -> int:
        modes.append(options & 3)
        if options & 3:
            raise PermissionError
        return real(path, options, *mode)

    monkeypatch.setattr("trainers.locks.os.open", refuse_writing)

    with file_lock(lock, timeout_s=0) as is_held:
        assert is_held
    assert modes == [2, 0]
