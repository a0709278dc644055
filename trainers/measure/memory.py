"""Peak memory of this process or of its device during a part of the work."""

import resource
from pathlib import Path

import torch

from trainers.allocator import c_function

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"
"""What Linux wants to read there to begin the peak of resident memory anew (proc(5))."""


def reset_peak_memory() -> None:
    """Begin the peak anew, for the CUDA device and for this process.

    Memory that is free but kept goes back to the system first: it is not this part's.

    A system that does not allow it goes on with the peak since the process began.
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    malloc_trim = c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return


def peak_memory_mib() -> float:
    """Yield the peak of the CUDA device, or else of this process, since the last reset, in MiB."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
