import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from trainers import allocator
from trainers.measure import memory

NEAR_MIB = 10
"""What an interpreter may take besides the block of memory, in MiB."""

FILL_AND_FREE = """
import mmap

def fill_and_free(size_mib):
    with mmap.mmap(-1, size_mib << 20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
"""


def printed_by(source):
    """The numbers that a fresh interpreter prints; its peak is no other test's."""
    ran = subprocess.run(
        [sys.executable, "-c", FILL_AND_FREE + source], capture_output=True, text=True, check=True
    )
    return [float(word) for word in ran.stdout.split()]


tells_peaks = pytest.mark.skipif(
    "VmHWM:" not in Path("/proc/self/status").read_text(),
    reason="without VmHWM the peak of an interpreter counts that of the process it came from",
)


@tells_peaks
def test_the_peak_grows_with_what_the_process_took_and_stays():
    before, after = printed_by(
        "from trainers.measure.memory import peak_memory_mib\n"
        "print(peak_memory_mib()); fill_and_free(100); print(peak_memory_mib())"
    )

    assert after - before == pytest.approx(100, abs=NEAR_MIB)


@tells_peaks
def test_a_reset_begins_the_peak_anew_where_the_system_allows_it():
    freed, reset = printed_by(
        "from pathlib import Path\n"
        "from trainers.measure.memory import peak_memory_mib\n"
        "fill_and_free(100); print(peak_memory_mib())\n"
        "try: Path('/proc/self/clear_refs').write_text('5')\n"
        "except OSError: pass\n"
        "print(peak_memory_mib())"
    )
    if reset > freed - 100 + NEAR_MIB:
        pytest.skip("this system does not begin the peak of resident memory anew")

    freed, reset = printed_by(
        "from trainers.measure.memory import peak_memory_mib, reset_peak_memory\n"
        "fill_and_free(100); print(peak_memory_mib())\n"
        "reset_peak_memory(); print(peak_memory_mib())"
    )

    assert freed - reset == pytest.approx(100, abs=NEAR_MIB)


def test_a_reset_asks_the_system(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "clear_refs")

    memory.reset_peak_memory()

    assert (tmp_path / "clear_refs").read_text() == "5"


def test_a_system_that_cannot_reset_goes_on_with_its_peak(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    peak = memory.peak_memory_mib()

    memory.reset_peak_memory()

    assert memory.peak_memory_mib() >= peak


def test_without_a_status_file_the_peak_is_that_since_the_process_began(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")

    peak = memory.peak_memory_mib()

    assert peak == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


glibc_alone = pytest.mark.skipif(
    not hasattr(os, "confstr") or "CS_GNU_LIBC_VERSION" not in os.confstr_names,
    reason="another C library",
)
FAULTS = """
import ctypes
import resource
from trainers.allocator import keep_freed_memory

libc, size = ctypes.CDLL(None), 40_000_000
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def one_pass():
    blocks = [libc.malloc(size) for _ in range(2)]
    for block in blocks:
        libc.memset(block, 1, size)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_memory() if KEEPS else None
before = one_pass()
print(one_pass() - before)
"""


@pytest.fixture
def nothing_chosen(monkeypatch):
    for name in allocator._USER_CHOICES:
        monkeypatch.delenv(name, raising=False)


@glibc_alone
@pytest.mark.usefixtures("nothing_chosen")
def test_a_pass_finds_the_memory_of_the_pass_before():
    (kept,) = printed_by(FAULTS.replace("KEEPS", "True"))
    (fetched,) = printed_by(FAULTS.replace("KEEPS", "False"))

    assert kept < 100
    assert fetched > 1000  # pages of 4 kB, if the system has no larger ones


@glibc_alone
@pytest.mark.usefixtures("nothing_chosen")
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_set_for_freed_memory_stays(name, monkeypatch):
    monkeypatch.setenv(name, "")

    (fetched,) = printed_by(FAULTS.replace("KEEPS", "True"))

    assert fetched > 1000


def test_a_system_without_glibc_keeps_its_own_ways(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        allocator.ctypes, "CDLL", lambda name: pytest.fail("asked for the C library")
    )

    allocator.keep_freed_memory.__wrapped__()
    memory.reset_peak_memory()

    assert memory.peak_memory_mib() > 0


@glibc_alone
@tells_peaks
@pytest.mark.usefixtures("nothing_chosen")
def test_memory_that_is_kept_counts_for_no_later_part():
    (first, second) = printed_by(
        "import torch\n"
        "from trainers.allocator import keep_freed_memory\n"
        "from trainers.measure.memory import *\n"
        "keep_freed_memory()\n"
        "reset_peak_memory(); torch.ones(100_000_000); print(peak_memory_mib())\n"
        "reset_peak_memory(); torch.ones(1_000_000); print(peak_memory_mib())\n"
    )

    assert second < first - 300
